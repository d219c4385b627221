# The Debian packages (make package): ruvltra holds program, models, service and docs, ruvltra-dev the library.
set(package_folder ${CMAKE_BINARY_DIR}/package)
set(package_inputs)
foreach(shell bash zsh fish)
  # Whatever settings this machine has must not matter.
  add_custom_command(OUTPUT ${package_folder}/completion.${shell} DEPENDS ruvltra VERBATIM
    COMMAND ${CMAKE_COMMAND} -E make_directory ${package_folder}
    COMMAND env -i RUVLTRA_CONFIG=${CMAKE_SOURCE_DIR}/contrib/config.toml
      $<TARGET_FILE:ruvltra> completions ${shell} > ${package_folder}/completion.${shell})
  list(APPEND package_inputs ${package_folder}/completion.${shell})
endforeach()
foreach(text ruvltra.1 debian/changelog)
  get_filename_component(name ${text} NAME)
  add_custom_command(OUTPUT ${package_folder}/${name}.gz DEPENDS contrib/${text} VERBATIM
    COMMAND ${CMAKE_COMMAND} -E make_directory ${package_folder}
    COMMAND gzip -9 -n -c ${CMAKE_SOURCE_DIR}/contrib/${text} > ${package_folder}/${name}.gz)
  list(APPEND package_inputs ${package_folder}/${name}.gz)
endforeach()
add_custom_target(package_files ALL DEPENDS ${package_inputs})

# Only where the packages are made: a plain `cmake --install` writes to its prefix and no further.
function(ruvltra_package_file destination)
  install(FILES ${ARGN} DESTINATION ${destination} COMPONENT program EXCLUDE_FROM_ALL)
endfunction()
set(doc share/doc/ruvltra)
ruvltra_package_file(/etc/ruvltra contrib/config.toml)
ruvltra_package_file(lib/systemd/system contrib/ruvltra.service)
ruvltra_package_file(share/man/man1 ${package_folder}/ruvltra.1.gz)
install(FILES ${package_folder}/completion.bash DESTINATION share/bash-completion/completions RENAME ruvltra
  COMPONENT program EXCLUDE_FROM_ALL)
install(FILES ${package_folder}/completion.zsh DESTINATION share/zsh/vendor-completions RENAME _ruvltra
  COMPONENT program EXCLUDE_FROM_ALL)
install(FILES ${package_folder}/completion.fish DESTINATION share/fish/vendor_completions.d RENAME ruvltra.fish
  COMPONENT program EXCLUDE_FROM_ALL)
ruvltra_package_file(${doc} contrib/debian/copyright README.md ${package_folder}/changelog.gz)
install(FILES ui/LICENSES.md DESTINATION ${doc} RENAME LICENSES.web-page.md COMPONENT program EXCLUDE_FROM_ALL)
file(GLOB doc_pages CONFIGURE_DEPENDS docs/*.md docs/*.json)
ruvltra_package_file(${doc}/docs ${doc_pages})
install(DIRECTORY examples/clients DESTINATION ${doc}/examples COMPONENT program EXCLUDE_FROM_ALL
  PATTERN node_modules EXCLUDE PATTERN __pycache__ EXCLUDE)
install(FILES contrib/debian/copyright DESTINATION share/doc/ruvltra-dev COMPONENT library EXCLUDE_FROM_ALL)
install(FILES ${package_folder}/changelog.gz DESTINATION share/doc/ruvltra-dev COMPONENT library EXCLUDE_FROM_ALL)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME ruvltra)
set(CPACK_PACKAGE_CONTACT "ruvltra developers")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
  WORLD_READ WORLD_EXECUTE)
set(CPACK_COMPONENTS_ALL program library)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "language model engine that learns from its users")
set(CPACK_COMPONENT_PROGRAM_DESCRIPTION "Runs RuvLTRA and Qwen2.5 models (GGUF) on ordinary CPUs: a dialogue in the
terminal, a server for OpenAI, Anthropic, Ollama and MCP clients with a web
page, quantization, routing of tasks to agents, learning from feedback. A
small trained model is part of the package; nothing is fetched.")
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME ruvltra)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PROGRAM_FILE_NAME DEB-DEFAULT)
set(debian ${CMAKE_SOURCE_DIR}/contrib/debian)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_CONTROL_EXTRA "${debian}/conffiles;${debian}/postinst;${debian}/prerm;${debian}/postrm")
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "Headers, static library, CMake package and pkg-config file, for programs in C
and C++20.")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME ruvltra-dev)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_DEPENDS "libfmt-dev, libssl-dev, libutf8proc-dev, libsqlite3-dev, libexpected-dev, zlib1g-dev")
set(CPACK_DEBIAN_LIBRARY_FILE_NAME DEB-DEFAULT)
include(CPack)
