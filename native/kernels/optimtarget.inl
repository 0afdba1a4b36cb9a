// Everything that a file of optimizer kernels includes after its headers and VECTOR_BYTES.
#include "vector.inl"
#include "wide.inl"
#include "narrow.inl"
#include "streams.inl"
#include "bamsprod.inl"
#include "bound.inl"
#include "bop.inl"
#include "memory.inl"
