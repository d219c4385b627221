#include "console.h"
#include "verbs.h"

int main(int argc, char** argv) {
  ruvltra::install_signal_handlers();
  ruvltra::Program program;
  ruvltra::add_all_verbs(program);
  return program.main(argc, argv);
}
