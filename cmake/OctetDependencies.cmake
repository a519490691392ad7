# Libraries from the system (scripts/setup installs them) and the Rust crate of src/text/ffi.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(prometheus-cpp REQUIRED COMPONENTS core)
find_package(PkgConfig REQUIRED)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)

# src/text/ffi: one static library plus the header and source that cxx generates.
set(OCTET_FFI_DIR ${CMAKE_SOURCE_DIR}/src/text/ffi)
set(OCTET_FFI_TARGET ${CMAKE_BINARY_DIR}/cargo)
set(OCTET_FFI_LIB ${OCTET_FFI_TARGET}/release/liboctet_text_ffi.a)
set(OCTET_FFI_BRIDGE ${OCTET_FFI_TARGET}/cxxbridge)
file(GLOB OCTET_FFI_SOURCES CONFIGURE_DEPENDS ${OCTET_FFI_DIR}/src/*.rs ${OCTET_FFI_DIR}/*.rs
     ${OCTET_FFI_DIR}/Cargo.toml ${OCTET_FFI_DIR}/Cargo.lock)
# The one in PATH (scripts/build chooses), else rustup's.
find_program(CARGO_PROGRAM cargo PATHS $ENV{HOME}/.cargo/bin REQUIRED)
# The touch: cargo leaves alone what it need not rewrite, and an output older than its sources would
# make every build run the command again.
add_custom_command(
  OUTPUT ${OCTET_FFI_LIB} ${OCTET_FFI_BRIDGE}/octet-text-ffi/src/lib.rs.cc
  BYPRODUCTS ${OCTET_FFI_BRIDGE}/octet-text-ffi/src/lib.rs.h ${OCTET_FFI_BRIDGE}/rust/cxx.h
  COMMAND ${CARGO_PROGRAM} build --release --locked --quiet --target-dir ${OCTET_FFI_TARGET}
  COMMAND ${CMAKE_COMMAND} -E touch ${OCTET_FFI_LIB}
          ${OCTET_FFI_BRIDGE}/octet-text-ffi/src/lib.rs.cc
  WORKING_DIRECTORY ${OCTET_FFI_DIR}
  DEPENDS ${OCTET_FFI_SOURCES}
  COMMENT "Building the Rust crate src/text/ffi"
  VERBATIM)
add_library(octet_text_ffi STATIC ${OCTET_FFI_BRIDGE}/octet-text-ffi/src/lib.rs.cc)
target_include_directories(octet_text_ffi SYSTEM PUBLIC ${OCTET_FFI_BRIDGE})
target_link_libraries(octet_text_ffi PUBLIC ${OCTET_FFI_LIB} ${CMAKE_DL_LIBS} Threads::Threads)
