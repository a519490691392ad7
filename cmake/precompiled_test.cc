// The one source of the library that owns the tests' precompiled header.
