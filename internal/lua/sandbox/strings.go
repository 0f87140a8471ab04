package sandbox

import (
	"fmt"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/pm"
)

// stringLib is written here because the library's own takes any width and any
// repetition, changes bytes that are no UTF-8, and differs from Lua where
// nothing is found.
var stringLib = []function{
	{"byte", strByte},
	{"char", strChar},
	{"find", strFind},
	{"format", strFormat},
	{"gmatch", strGmatch},
	{"gsub", strGsub},
	{"len", strLen},
	{"lower", strLower},
	{"match", strMatch},
	{"rep", strRep},
	{"reverse", strReverse},
	{"sub", strSub},
	{"upper", strUpper},
}

// span returns s[from:to] as Lua counts: from 1, from the end when negative.
func span(s string, from, to int) string {
	if from < 0 {
		from = max(len(s)+from+1, 1)
	}
	if to < 0 {
		to = len(s) + to + 1
	}
	from, to = max(from, 1), min(to, len(s))
	if from > to {
		return ""
	}
	return s[from-1 : to]
}

func strByte(l *lua.LState) int {
	s := l.CheckString(1)
	from := l.OptInt(2, 1)
	s = span(s, from, l.OptInt(3, from))
	if len(s) >= maxSlots {
		l.RaiseError("string slice too long")
	}
	for i := range len(s) {
		l.Push(lua.LNumber(s[i]))
	}
	return len(s)
}

func strChar(l *lua.LState) int {
	b := make([]byte, l.GetTop())
	for i := range b {
		n := l.CheckInt(i + 1)
		if n < 0 || n > 255 {
			l.ArgError(i+1, "invalid value")
		}
		b[i] = byte(n)
	}
	l.Push(lua.LString(b))
	return 1
}

func strLen(l *lua.LState) int {
	l.Push(lua.LNumber(len(l.CheckString(1))))
	return 1
}

func strSub(l *lua.LState) int {
	l.Push(lua.LString(span(l.CheckString(1), l.CheckInt(2), l.OptInt(3, -1))))
	return 1
}

func strRep(l *lua.LState) int {
	s, n := l.CheckString(1), l.CheckInt(2)
	if n <= 0 || s == "" {
		l.Push(lua.LString(""))
		return 1
	}
	if n > MaxString/len(s) {
		tooLarge(l)
	}
	l.Push(lua.LString(strings.Repeat(s, n)))
	return 1
}

func strReverse(l *lua.LState) int {
	s := l.CheckString(1)
	b := make([]byte, len(s))
	for i := range len(s) {
		b[len(s)-1-i] = s[i]
	}
	l.Push(lua.LString(b))
	return 1
}

func strLower(l *lua.LState) int { return ascii(l, 'A', 'Z') }
func strUpper(l *lua.LState) int { return ascii(l, 'a', 'z') }

// ascii changes the case of the letters from first to last, and no others.
func ascii(l *lua.LState, first, last byte) int {
	b := []byte(l.CheckString(1))
	for i, c := range b {
		if c >= first && c <= last {
			b[i] = c ^ 0x20
		}
	}
	l.Push(lua.LString(b))
	return 1
}

// matches finds a pattern; what is wrong with the pattern is raised.
func matches(l *lua.LState, pattern, s string, from, limit int) []*pm.MatchData {
	found, err := pm.Find(pattern, []byte(s), from, limit)
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
	return found
}

// capture is the i-th capture of a match, counted from 1; 0 is all of it.
func capture(l *lua.LState, m *pm.MatchData, s string, i int) lua.LValue {
	if i == 1 && m.CaptureLength() == 2 {
		i = 0 // without captures the whole is the first
	}
	if 2*i+1 >= m.CaptureLength() {
		l.RaiseError("invalid capture index")
	}
	if m.IsPosCapture(2 * i) {
		return lua.LNumber(m.Capture(2 * i))
	}
	return lua.LString(s[m.Capture(2*i):m.Capture(2*i+1)])
}

// pushCaptures pushes a match's captures, the whole when it has none.
func pushCaptures(l *lua.LState, m *pm.MatchData, s string) int {
	n := max(1, m.CaptureLength()/2-1)
	for i := 1; i <= n; i++ {
		l.Push(capture(l, m, s, i))
	}
	return n
}

// begin is where find and match begin, counted from 0; false beyond the end.
func begin(l *lua.LState, s string) (int, bool) {
	from := l.OptInt(3, 1)
	if from < 0 {
		from = max(len(s)+from+1, 1)
	}
	from = max(from, 1) - 1
	return from, from <= len(s)
}

func strFind(l *lua.LState) int {
	s, pattern := l.CheckString(1), l.CheckString(2)
	from, ok := begin(l, s)
	switch {
	case !ok:
	case lua.LVAsBool(l.Get(4)) || !strings.ContainsAny(pattern, "^$*+?.([%-"):
		if i := strings.Index(s[from:], pattern); i >= 0 {
			l.Push(lua.LNumber(from + i + 1))
			l.Push(lua.LNumber(from + i + len(pattern)))
			return 2
		}
	default:
		if found := matches(l, pattern, s, from, 1); len(found) > 0 {
			m := found[0]
			l.Push(lua.LNumber(m.Capture(0) + 1))
			l.Push(lua.LNumber(m.Capture(1)))
			if m.CaptureLength() == 2 {
				return 2
			}
			return 2 + pushCaptures(l, m, s)
		}
	}
	l.Push(lua.LNil)
	return 1
}

func strMatch(l *lua.LState) int {
	s, pattern := l.CheckString(1), l.CheckString(2)
	if from, ok := begin(l, s); ok {
		if found := matches(l, pattern, s, from, 1); len(found) > 0 {
			return pushCaptures(l, found[0], s)
		}
	}
	l.Push(lua.LNil)
	return 1
}

func strGmatch(l *lua.LState) int {
	s := l.CheckString(1)
	found := matches(l, l.CheckString(2), s, 0, -1)
	l.Push(l.NewFunction(func(l *lua.LState) int {
		if len(found) == 0 {
			l.Push(lua.LNil)
			return 1
		}
		m := found[0]
		found = found[1:]
		return pushCaptures(l, m, s)
	}))
	return 1
}

func strGsub(l *lua.LState) int {
	s, pattern := l.CheckString(1), l.CheckString(2)
	l.CheckTypes(3, lua.LTString, lua.LTNumber, lua.LTTable, lua.LTFunction)
	limit := l.OptInt(4, -1)
	var found []*pm.MatchData
	if limit > 0 || l.GetTop() < 4 || l.Get(4) == lua.LNil {
		found = matches(l, pattern, s, 0, limit)
	}
	var b strings.Builder
	at := 0
	for _, m := range found {
		b.WriteString(s[at:m.Capture(0)])
		at = m.Capture(1)
		whole := s[m.Capture(0):at]
		var v lua.LValue
		switch repl := l.Get(3).(type) {
		case *lua.LTable:
			v = l.GetTable(repl, capture(l, m, s, 1))
		case *lua.LFunction:
			l.Push(repl)
			l.Call(pushCaptures(l, m, s), 1)
			v = l.Get(-1)
			l.Pop(1)
		default:
			expand(l, &b, lua.LVAsString(repl), m, s)
			if b.Len() > MaxString {
				tooLarge(l)
			}
			continue
		}
		switch {
		case lua.LVIsFalse(v):
			b.WriteString(whole)
		case lua.LVCanConvToString(v):
			b.WriteString(lua.LVAsString(v))
		default:
			l.RaiseError("invalid replacement value (a %s)", v.Type().String())
		}
		if b.Len() > MaxString {
			tooLarge(l)
		}
	}
	b.WriteString(s[at:])
	l.Push(lua.LString(b.String()))
	l.Push(lua.LNumber(len(found)))
	return 2
}

// expand writes a replacement: %1 is a capture, %0 the whole, %% a percent.
func expand(l *lua.LState, b *strings.Builder, repl string, m *pm.MatchData, s string) {
	for i := 0; i < len(repl); i++ {
		c := repl[i]
		if c != '%' || i+1 == len(repl) {
			b.WriteByte(c)
			continue
		}
		i++
		if c = repl[i]; c < '0' || c > '9' {
			b.WriteByte(c)
			continue
		}
		b.WriteString(lua.LVAsString(capture(l, m, s, int(c-'0'))))
		if b.Len() > MaxString {
			tooLarge(l)
		}
	}
}

// strFormat is Lua's: widths and precisions have two digits at most.
func strFormat(l *lua.LState) int {
	format := l.CheckString(1)
	var b strings.Builder
	for arg := 1; ; {
		text, spec, ok := strings.Cut(format, "%")
		b.WriteString(text)
		if b.Len() > MaxString {
			tooLarge(l)
		}
		if !ok {
			break
		}
		if strings.HasPrefix(spec, "%") {
			b.WriteByte('%')
			format = spec[1:]
			continue
		}
		n := len(spec) - len(strings.TrimLeft(spec, "-+ #0"))
		n += digits(spec[n:])
		if strings.HasPrefix(spec[n:], ".") {
			n += 1 + digits(spec[n+1:])
		}
		if n >= len(spec) || n > 12 {
			l.RaiseError("invalid option in 'format'")
		}
		arg++
		one(l, &b, "%"+spec[:n], spec[n], arg)
		format = spec[n+1:]
	}
	l.Push(lua.LString(b.String()))
	return 1
}

// digits returns how many of the first two characters are digits.
func digits(s string) (n int) {
	for n < len(s) && n < 2 && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}

// one writes one argument of format.
func one(l *lua.LState, b *strings.Builder, flags string, verb byte, arg int) {
	switch verb {
	case 'd', 'i':
		fmt.Fprintf(b, flags+"d", int64(l.CheckNumber(arg)))
	case 'u':
		fmt.Fprintf(b, flags+"d", uint64(int64(l.CheckNumber(arg))))
	case 'c':
		fmt.Fprintf(b, flags+"s", string([]byte{byte(l.CheckInt(arg))}))
	case 'o', 'x', 'X':
		fmt.Fprintf(b, flags+string(verb), uint64(int64(l.CheckNumber(arg))))
	case 'e', 'E', 'f', 'g', 'G':
		fmt.Fprint(b, float(flags, verb, float64(l.CheckNumber(arg))))
	case 's':
		v := l.CheckAny(arg)
		text := v.String()
		if n, ok := v.(lua.LNumber); ok {
			text = number(n)
		}
		if flags == "%" {
			b.WriteString(text)
			return
		}
		fmt.Fprintf(b, flags+"s", text)
	case 'q':
		quote(b, l.CheckString(arg))
	default:
		l.RaiseError("invalid option in 'format'")
	}
}

// float formats as C does: %g has six digits, unless told otherwise.
func float(flags string, verb byte, f float64) string {
	if (verb == 'g' || verb == 'G') && !strings.Contains(flags, ".") {
		flags += ".6"
	}
	return fmt.Sprintf(flags+string(verb), f)
}

// quote writes s so that Lua reads it back.
func quote(b *strings.Builder, s string) {
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\r':
			b.WriteString("\\r")
		case 0:
			b.WriteString("\\000")
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
}

// shortFloat is a number with at most 14 digits, as cjson writes it.
func shortFloat(f float64) string { return strconv.FormatFloat(f, 'g', 14, 64) }
