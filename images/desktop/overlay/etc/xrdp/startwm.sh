#!/bin/sh
# Debian's script reads a dozen files of Xsession.d first, none of which is needed here.
exec /usr/lib/nonstop/session
