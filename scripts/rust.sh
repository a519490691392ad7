# Sourced by setup and build: puts a Rust of 1.85 or later into front of PATH; rustup's if it is one, else the
# system's. Fails when there is none.
use_rust() {
  local folder version
  for folder in "$HOME/.cargo/bin" "$(dirname "$(command -v cargo 2>/dev/null || echo /usr/bin/cargo)")" /usr/bin \
                $(ls -d /usr/lib/rust-*/bin 2>/dev/null | sort -rV); do
    version=$(PATH="$folder:$PATH" "$folder/cargo" --version 2>/dev/null | cut -d' ' -f2) || continue
    if [ -n "$version" ] && [ "$(printf '%s\n1.85\n' "$version" | sort -V | head -1)" = 1.85 ]; then
      export PATH="$folder:$PATH"
      return 0
    fi
  done
  return 1
}
