// Everything that a target's file includes after its headers, VECTOR_BYTES and its counter.
#include "bitlayer.inl"
#include "pack.inl"
#include "bitpool.inl"
#include "floats.inl"
#include "floatrows.inl"
#include "floatsigns.inl"
#include "floatpool.inl"
#include "ceiling.inl"
