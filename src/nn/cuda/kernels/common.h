// Definitions to compile the kernels with nvcc, or with a C++ compiler to test them on the CPU.

#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <mma.h>
typedef __nv_bfloat16 bf16;
#define KERNEL extern "C" __global__ void
#define DEVICE __device__ __forceinline__
#define SHARED __shared__
#define DYNAMIC(name) extern __shared__ __align__(128) unsigned char name[]
DEVICE float widen(bf16 x) { return __bfloat162float(x); }
DEVICE bf16 narrow(float x) { return __float2bfloat16(x); }
#else
#include "host.h"
#endif

DEVICE float get(float x) { return x; }
DEVICE float get(bf16 x) { return widen(x); }
DEVICE void put(float &to, float x) { to = x; }
DEVICE void put(bf16 &to, float x) { to = narrow(x); }
