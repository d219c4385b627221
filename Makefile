# Two commands: `make demo` and `make test`. Both install the Debian packages they miss (tools/packages.txt).
.DEFAULT_GOAL := build
.PHONY: build demo test check bench format package clean packages

packages:
	@tools/install-packages

build: packages
	@cmake --preset release > /dev/null
	@cmake --build --preset release --target ruvltra

demo: build
	@echo
	@echo 'build/ruvltra run "Tell me a story about a fox and a crow."'
	@echo
	@build/ruvltra run --seed 1 --temp 0.5 --max-tokens 160 --stats "Tell me a story about a fox and a crow." < /dev/null

test: packages
	@tools/dev test

check: packages
	@tools/dev check

bench: build
	@build/ruvltra bench -p 128 -n 64

package: packages
	@tools/dev package

format:
	@tools/dev format

clean:
	rm -rf build build-*
