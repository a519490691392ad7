# octet_level_files(<variable> <name> <pattern>): files of a level and of its floors, as in `*.cc`.
function(octet_level_files variable name pattern)
  get_property(floors GLOBAL PROPERTY OCTET_FLOORS_${name})
  set(globs ${CMAKE_SOURCE_DIR}/src/${name}/${pattern})
  foreach(floor ${floors})
    list(APPEND globs ${CMAKE_SOURCE_DIR}/src/${name}/${floor}/${pattern})
  endforeach()
  file(GLOB files CONFIGURE_DEPENDS ${globs})
  set(${variable} ${files} PARENT_SCOPE)
endfunction()

# octet_level(<name> LINK <targets>... [FLOORS <folder>...] [OWN_PCH | NO_PCH]): the static library octet_<name> from
# src/<name>/*.cc and src/<name>/<floor>/*.cc; floors side by side are joined by |. OWN_PCH, NO_PCH:
# where base's precompiled header will not do, for other flags.
# Tests (*_test.cc) beside the code become octet_<name>_test (see OctetTests.cmake).
function(octet_level name)
  cmake_parse_arguments(ARG "OWN_PCH;NO_PCH" "" "LINK;FLOORS" ${ARGN})
  string(REPLACE "|" ";" floors "${ARG_FLOORS}")
  set_property(GLOBAL PROPERTY OCTET_FLOORS_${name} ${floors})
  octet_level_files(sources ${name} *.cc)
  list(FILTER sources EXCLUDE REGEX "(_test|/main)\\.cc$")
  if(NOT sources)
    add_library(octet_${name} INTERFACE)
    target_link_libraries(octet_${name} INTERFACE ${ARG_LINK})
    return()
  endif()
  add_library(octet_${name} STATIC ${sources})
  octet_unite(octet_${name})
  target_include_directories(octet_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(octet_${name} PUBLIC ${ARG_LINK} PRIVATE octet_warnings)
  if(ARG_OWN_PCH)
    octet_precompile(octet_${name} precompiled.h)
  elseif(NOT ARG_NO_PCH)
    octet_reuse(octet_${name} octet_base)
  endif()
  set_property(GLOBAL APPEND PROPERTY OCTET_LEVELS ${name})
endfunction()

# octet_kernel_isa(<set> <flags> [<target>]): src/kernels/<set>/*.cc, a part of octet_kernels or of
# the target, compiled with the flags of one instruction set, in a namespace of its own. Nothing
# else in the program gets those flags, and these files include no header with inline code that
# others share (docs/kernels.md). -Wno-…uninitialized: g++ 12 takes the deliberately undefined
# operands in its own intrinsics headers for mistakes.
# A set with flags is one of x86-64 and left out elsewhere; what is built defines OCTET_KERNELS_<SET>.
function(octet_kernel_isa set flags)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/${set}/*.cc)
  if(NOT sources OR (flags AND NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$"))
    return()
  endif()
  string(TOUPPER ${set} upper)
  add_library(octet_kernels_${set} OBJECT ${sources})
  target_include_directories(octet_kernels_${set} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_options(octet_kernels_${set} PRIVATE -Wall -Wextra -Wno-maybe-uninitialized
                         -Wno-uninitialized -ffp-contract=off
                         -fno-math-errno -fno-trapping-math -O3 ${flags})
  if(ARGC GREATER 2)
    target_link_libraries(${ARGV2} PRIVATE $<TARGET_OBJECTS:octet_kernels_${set}>)
    target_compile_definitions(${ARGV2} PRIVATE OCTET_KERNELS_${upper})
  else()
    target_link_libraries(octet_kernels PUBLIC $<TARGET_OBJECTS:octet_kernels_${set}>)
    target_compile_definitions(octet_kernels PRIVATE OCTET_KERNELS_${upper})
  endif()
endfunction()

# octet_embed(<target> <file> <symbol>): the file's bytes, zero-terminated, as
# `const char octet::<symbol>[]` in the target.
function(octet_embed target file symbol)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${file})
  file(READ ${CMAKE_SOURCE_DIR}/${file} hex HEX)
  string(REGEX REPLACE "(..)" "'\\\\x\\1'," bytes "${hex}")
  set(out ${CMAKE_BINARY_DIR}/embedded/${symbol}.cc)
  file(CONFIGURE OUTPUT ${out} CONTENT "namespace octet {
extern const char ${symbol}[];
const char ${symbol}[] = {@bytes@0};
}
" @ONLY)
  target_sources(${target} PRIVATE ${out})
endfunction()
