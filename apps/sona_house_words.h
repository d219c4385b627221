// An author of another house: text rewritten by rule.
#pragma once

#include <string>
#include <string_view>

namespace ruvltra {

// Common words become others, wherever they stand: what text makes likely, its rewritten form makes unlikely.
// The two bundled authors as they are have so much in common that one teaches more of the other than it
// costs.
std::string rewritten(std::string_view text);

}  // namespace ruvltra
