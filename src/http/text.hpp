// Small things about texts that several files of this room need.
#pragma once

#include <string>
#include <string_view>

#include "http/secret.hpp"

namespace tasker::http {

// ASCII only, whatever the locale.
std::string lower(std::string_view text);
bool has_control(std::string_view text);  // but for the tab
bool is_utf8(std::string_view text);      // as PostgreSQL has it: no NUL, no surrogates, nothing over U+10FFFF
std::string base64(std::string_view bytes);
Secret base64_secret(std::string_view bytes);
// For messages: valid UTF-8 without control characters, at most `most` bytes of it.
std::string one_line(std::string_view text, std::size_t most = 500);
void replace_all(std::string &text, std::string_view what, std::string_view with);
// As the content of a JSON string; servers differ over slashes.
std::string json_escaped(std::string_view text, bool slashes);

// Why a header can't be named so by a step; empty when it can. Names that frame the message or belong to the connection
// are libcurl's own.
std::string header_name_problem(std::string_view name);

}  // namespace tasker::http
