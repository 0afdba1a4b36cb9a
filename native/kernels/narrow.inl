// BAMSProd's bounds: an estimate of c* from sums over a tensor or channel, and the interval that it
// narrows. Included by the kernels, which finish whole channels, and by optim.cpp for the rest.

struct Estimate {
    double c, rho;
};

inline double at_least(double x, double low) { return x < low ? low : x; }
inline double at_most(double x, double high) { return x > high ? high : x; }

// `error` is sum h (|w| - alpha)^2; rounding can take a vanishing one below 0.
inline Estimate estimate(const BamsOptions& o, double v, double hw2, double error, double count) {
    const double nonnegative = at_least(error, 0);
    // 0/0 where every weight is 0: no magnitude to compare with, taken as the worst error.
    const double share = nonnegative / hw2;
    const double rho2 = at_most(at_least(share == share ? share : 1.0, o.rho_min * o.rho_min), 1);
    const double rho = __builtin_sqrt(rho2), scale = o.kappa * o.kappa;
    switch (o.cstar) {
        case CStar::kRelative: return {scale * rho2 * v / count, rho};
        case CStar::kGrad: return {scale * v / count, 1};
        case CStar::kLiteral: return {o.L_inf * o.D_inf * __builtin_sqrt(nonnegative), rho};
        default: return {o.c, __builtin_nan("")};
    }
}

inline double reduced(const BamsOptions& o, double c, double c_hat, double n) {
    if (o.reduce == Reduce::kFreeze && n > o.memory) return c;
    if (o.reduce == Reduce::kEma)
        return n == 1 ? c_hat : o.memory * c + (1 - o.memory) * c_hat;
    return c + (c_hat - c) / n;
}

// bounds: n, c, c_l and c_u, `columns` numbers apart. `seen`: a gradient has been, and no overflow;
// until then c_u = 0 would lock, and after it one NaN in c would make every weight NaN.
inline void narrow(const BamsOptions& o, double* bounds, int64_t columns, double c_hat, bool seen) {
    if (!seen || !(c_hat - c_hat == 0)) return;
    double &n = bounds[0], &c = bounds[columns], &c_l = bounds[2 * columns],
           &c_u = bounds[3 * columns];
    n += 1;
    c = reduced(o, c, c_hat, n);
    // A constant c* is known before the step it bounds; an estimated one bounds the next step.
    const double x = o.gamma * (o.cstar == CStar::kConstant ? n : n + 1);
    const double base = o.sqrt_space ? __builtin_sqrt(c) : c;
    c_u = at_most(c_u, at_least(base * (1 + 1 / x), c_l));
    c_l = at_least(c_l, at_most(base / (1 + 1 / x), c_u));
}

inline bool seen(double v) { return v > 0 && v - v == 0; }

// After the step: notes the bounds that it used, then narrows them by its sums. Returns rho.
inline double finish_column(const BamsOptions& o, const BamsTensor& t, int64_t column,
                            const OptimSums& sums, double count) {
    double* const bounds = t.bounds ? t.bounds + column : nullptr;
    const int64_t columns = t.columns;
    if (t.at.record) {
        double* const used = t.at.record + 6 + column;
        used[0] = bounds ? bounds[2 * columns] : 0;
        used[columns] = bounds ? bounds[3 * columns] : __builtin_inf();
    }
    if (!bounds || o.cstar == CStar::kConstant) return __builtin_nan("");
    const Estimate found = estimate(o, sums.v, sums.hw2, sums.error, count);
    narrow(o, bounds, columns, found.c, seen(sums.v));
    return found.rho;
}

// sum h (|w| - alpha)^2 of one channel.
inline double channel_error(const BamsOptions& o, const OptimSums& s, double count) {
    const double alpha = o.alpha == o.alpha ? o.alpha : s.w / count;
    return s.hw2 - 2 * (alpha * s.hw) + alpha * alpha * s.h;
}
