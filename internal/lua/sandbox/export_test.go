package sandbox

import lua "github.com/yuin/gopher-lua"

// Open makes all that a function can reach in l.
func Open(l *lua.LState) { (&run{l: l}).open() }
