
#include "base/fail.h"
#include "base/utf8.h"
#include "gguf/reader.h"
#include "options.h"
#include "text/tokenizer.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  std::string model = "demo";
  bool ids = false;
  bool no_special = false;
  bool no_nfc = false;
  bool decode = false;
};

// A token's text on one line: control bytes and bytes that are no UTF-8 on their own as escapes.
std::string visible(std::string_view bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size();) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const size_t length = utf8_sequence_length(bytes.substr(i));
    if (byte == '\n') {
      out += "\\n";
    } else if (byte == '\t') {
      out += "\\t";
    } else if (byte == '\\') {
      out += "\\\\";
    } else if (length == 0 || byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned>(byte));
    } else {
      out += bytes.substr(i, length);
      i += length;
      continue;
    }
    ++i;
  }
  return out;
}

Result<int> tokenize(const Options& options) {
  ASSIGN_OR_RETURN(const auto path, resolve_model(options.model));
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::open(path));
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::load(file.metadata()));
  tokenizer.set_nfc(!options.no_nfc);
  ASSIGN_OR_RETURN(const std::string text, read_input());

  if (options.decode) {
    ASSIGN_OR_RETURN(const auto ids, parse_token_ids(text, tokenizer.n_vocab(), "stdin", ErrorKind::kInput));
    write_out(tokenizer.decode(ids, true));
    return kExitOk;
  }
  ASSIGN_OR_RETURN(const auto ids,
                   tokenizer.encode(text, options.no_special ? Recognise::kNone : Recognise::kAll));
  std::string out;
  if (options.ids) {
    out = fmt::format("{}\n", fmt::join(ids, " "));
  } else {
    for (const TokenId id : ids) out += fmt::format("{}\t{}\n", id, visible(tokenizer.bytes(id)));
  }
  write_out(out);
  return kExitOk;
}

}  // namespace

void add_tokenize_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb("tokenize", "Text on stdin to token ids, or back",
                                   "  echo -n 'Once upon a time' | ruvltra tokenize\n"
                                   "  ruvltra tokenize --ids < story.txt\n"
                                   "  echo 12 40 7 | ruvltra tokenize --decode\n",
                                   [options] { return tokenize(*options); });
  add_model_path_option(app, options->model);
  CLI::Option* ids = app.add_flag("--ids", options->ids, "One line of ids instead of a line per token");
  CLI::Option* no_special = app.add_flag("--no-special", options->no_special,
                                         "Treat control strings such as <|im_end|> as plain text");
  CLI::Option* no_nfc = app.add_flag("--no-nfc", options->no_nfc,
                                     "Leave the text as it is instead of normalising it (Unicode NFC)");
  app.add_flag("--decode", options->decode, "Read ids, write their text")->excludes(ids, no_special, no_nfc);
}

}  // namespace ruvltra
