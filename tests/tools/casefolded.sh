#!/bin/sh
# The image's root directory gets +F, which all directories made below inherit.
flags=$(debugfs -R 'stat /' "$1" 2>/dev/null | sed -n 's/.*Flags: \(0x[0-9a-f]*\).*/\1/p')
debugfs -w -R "set_inode_field / flags $(printf 0x%x $((flags | 0x40000000)))" "$1"
