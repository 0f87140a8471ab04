package sandbox

import (
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// base are the functions without a library. The library's own are not used:
// they come with what reaches files and other functions' environments, and
// some differ from Lua.
var base = []function{
	{"assert", assert},
	{"error", raise},
	{"next", next},
	{"pcall", pcall},
	{"select", choose},
	{"tonumber", tonumber},
	{"type", typeOf},
	{"unpack", unpack},
	{"xpcall", xpcall},
}

func assert(l *lua.LState) int {
	if lua.LVAsBool(l.CheckAny(1)) {
		return l.GetTop()
	}
	if l.GetTop() < 2 {
		l.RaiseError("assertion failed!")
	}
	l.Error(l.Get(2), 0)
	return 0
}

func raise(l *lua.LState) int {
	l.Error(l.Get(1), l.OptInt(2, 1))
	return 0
}

func next(l *lua.LState) int {
	k, v := l.CheckTable(1).Next(l.Get(2))
	if k == lua.LNil {
		l.Push(lua.LNil)
		return 1
	}
	l.Push(k)
	l.Push(v)
	return 2
}

func pairs(l *lua.LState) int {
	t := l.CheckTable(1)
	l.Push(l.Get(lua.UpvalueIndex(1)))
	l.Push(t)
	l.Push(lua.LNil)
	return 3
}

func inext(l *lua.LState) int {
	i := l.CheckInt(2) + 1
	v := l.CheckTable(1).RawGetInt(i)
	if v == lua.LNil {
		return 0
	}
	l.Push(lua.LNumber(i))
	l.Push(v)
	return 2
}

func ipairs(l *lua.LState) int {
	t := l.CheckTable(1)
	l.Push(l.Get(lua.UpvalueIndex(1)))
	l.Push(t)
	l.Push(lua.LNumber(0))
	return 3
}

// caught pushes what pcall returns for an error.
func caught(l *lua.LState, err error) int {
	l.Push(lua.LFalse)
	if e, ok := err.(*lua.ApiError); ok && e.Object != nil { //nolint:errorlint // PCall returns it bare
		l.Push(e.Object)
	} else {
		l.Push(lua.LString(err.Error()))
	}
	return 2
}

func pcall(l *lua.LState) int {
	l.CheckAny(1)
	if err := l.PCall(l.GetTop()-1, lua.MultRet, nil); err != nil {
		return caught(l, err)
	}
	l.Insert(lua.LTrue, 1)
	return l.GetTop()
}

// xpcall hands its further arguments on, as LuaJIT's does.
func xpcall(l *lua.LState) int {
	fn, handler := l.CheckAny(1), l.CheckFunction(2)
	top := l.GetTop()
	l.Push(fn)
	for i := 3; i <= top; i++ {
		l.Push(l.Get(i))
	}
	if err := l.PCall(max(0, top-2), lua.MultRet, handler); err != nil {
		return caught(l, err)
	}
	l.Insert(lua.LTrue, top+1)
	return l.GetTop() - top
}

func choose(l *lua.LState) int {
	top := l.GetTop()
	if s, ok := l.Get(1).(lua.LString); ok && s == "#" {
		l.Push(lua.LNumber(top - 1))
		return 1
	}
	n := int(l.CheckNumber(1))
	switch {
	case n < 0:
		n += top
	case n > top:
		n = top
	}
	if n < 1 {
		l.ArgError(1, "index out of range")
	}
	return top - n
}

func typeOf(l *lua.LState) int {
	l.Push(lua.LString(l.CheckAny(1).Type().String()))
	return 1
}

func unpack(l *lua.LState) int {
	t := l.CheckTable(1)
	first, last := l.OptInt(2, 1), l.OptInt(3, t.Len())
	if first > last {
		return 0
	}
	if n := last - first; n < 0 || n >= maxSlots {
		l.RaiseError("too many results to unpack")
	}
	for i := first; ; i++ {
		l.Push(t.RawGetInt(i))
		if i == last { // last may be the largest number there is
			return last - first + 1
		}
	}
}

func tonumber(l *lua.LState) int {
	v := l.CheckAny(1)
	radix := l.OptInt(2, 10)
	if radix < 2 || radix > 36 {
		l.ArgError(2, "base out of range")
	}
	switch v := v.(type) {
	case lua.LNumber:
		if radix == 10 {
			l.Push(v)
			return 1
		}
		l.Push(fromText(v.String(), radix))
	case lua.LString:
		l.Push(fromText(string(v), radix))
	default:
		l.Push(lua.LNil)
	}
	return 1
}

// fromText reads a number as Lua writes them: the library's own does not know
// 1e5.
func fromText(s string, radix int) lua.LValue {
	s = strings.Trim(s, " \t\n\r\f\v")
	negative := strings.HasPrefix(s, "-")
	digits := strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
	if len(digits)+1 < len(s) { // -+5
		return lua.LNil
	}
	hex := len(digits) > 2 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X')
	if hex && (radix == 10 || radix == 16) {
		digits, radix = digits[2:], 16
	} else if radix == 10 {
		if strings.Trim(digits, "0123456789.eE+-") != "" {
			return lua.LNil // inf, nan, 1_000
		}
		f, err := strconv.ParseFloat(s, 64)
		if err != nil && !math.IsInf(f, 0) {
			return lua.LNil
		}
		return lua.LNumber(f)
	}
	n, err := strconv.ParseUint(digits, radix, 64)
	if err != nil || strings.Contains(digits, "_") || digits[0] == '+' {
		return lua.LNil
	}
	if f := float64(n); negative {
		return lua.LNumber(-f)
	}
	return lua.LNumber(n)
}

func (r *run) tostring(l *lua.LState) int {
	l.Push(lua.LString(r.text(l.CheckAny(1))))
	return 1
}

// text is a value as tostring shows it.
func (r *run) text(v lua.LValue) string {
	switch v := v.(type) {
	case lua.LNumber:
		return number(v)
	case *lua.LUserData:
		if v == r.null {
			return "userdata: NULL"
		}
	}
	return v.String()
}

// number is a number as tostring shows it.
func number(n lua.LNumber) string {
	switch f := float64(n); {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 0):
		return strings.TrimPrefix(strings.ToLower(strconv.FormatFloat(f, 'g', -1, 64)), "+")
	}
	return n.String()
}
