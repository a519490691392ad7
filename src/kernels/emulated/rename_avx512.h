// The intrinsics of AVX-512 become functions of instructions.h, and the namespace avx512 another.
#pragma once

#include "src/kernels/emulated/instructions.h"

#define _mm512_set1_ps emulated::set1_ps
#define _mm512_set1_epi32 emulated::set1_epi32
#define _mm512_loadu_ps emulated::loadu_ps
#define _mm512_loadu_si512 emulated::loadu_si512
#define _mm512_storeu_ps emulated::storeu_ps
#define _mm512_maskz_loadu_ps emulated::maskz_loadu_ps
#define _mm512_mask_storeu_ps emulated::mask_storeu_ps
#define _mm512_add_ps emulated::add_ps
#define _mm512_sub_ps emulated::sub_ps
#define _mm512_mul_ps emulated::mul_ps
#define _mm512_div_ps emulated::div_ps
#define _mm512_max_ps emulated::max_ps
#define _mm512_min_ps emulated::min_ps
#define _mm512_fmadd_ps emulated::fmadd_ps
#define _mm512_reduce_add_ps emulated::reduce_add_ps
#define _mm512_reduce_max_ps emulated::reduce_max_ps
#define _mm512_add_epi32 emulated::add_epi32
#define _mm512_slli_epi32 emulated::slli_epi32
#define _mm512_permutex2var_epi32 emulated::permutex2var_epi32
#define _mm512_permutexvar_epi16 emulated::permutexvar_epi16
#define _mm512_cvtepi32_epi16 emulated::cvtepi32_epi16
#define _mm512_srli_epi32 emulated::srli_epi32
#define _mm512_and_si512 emulated::and_si512
#define _mm512_or_si512 emulated::or_si512
#define _mm512_castps_si512(v) emulated::bits<__m512i>(v)
#define _mm512_cvtps_epi32 emulated::cvtps_epi32
#define _mm512_cvtepi32_ps emulated::cvtepi32_ps
#define _mm512_cvtepi32_epi8 emulated::cvtepi32_epi8
#define _mm512_cvtepi8_epi32 emulated::cvtepi8_epi32
#define _mm512_cvtepu16_epi32 emulated::cvtepu16_epi32
#define _mm512_cvtph_ps emulated::cvtph_ps
#define _mm512_permutexvar_ps emulated::permutexvar_ps
#define _mm512_dpbusd_epi32 emulated::dpbusd_epi32
#define _mm_mask_storeu_epi8 emulated::mask_storeu_epi8
#define _mm512_setzero_ps() emulated::set1_ps(0)
#define _mm512_roundscale_ps(v, to_nearest) emulated::nearest_ps(v)
#define _mm512_castsi512_ps(v) emulated::bits<__m512>(v)
#define OCTET_REGISTER "m"
#define _mm512_cvtsi512_si32(v) emulated::bits<emulated::Ints>(v).of[0]
#define avx512 avx512_emulated
