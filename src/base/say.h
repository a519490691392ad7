// What the user is told on stderr, whatever has become of stderr: a full disk, a reader that is
// gone and a closed descriptor are no reason to end differently. Safe in signal handlers.
#pragma once

#include <string_view>

namespace octet {

// All of the text, however long its reader takes. What cannot be written is left out.
void say(std::string_view text) noexcept;
// The same for a server, whose end nobody may hold up: waits half a second for the reader at most.
void say_briefly(std::string_view text) noexcept;

}  // namespace octet
