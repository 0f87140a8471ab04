package sandbox

import (
	"sort"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

var tableLib = []function{
	{"clear", tabClear},
	{"clone", tabClone},
	{"concat", tabConcat},
	{"foreach", tabForeach},
	{"foreachi", tabForeachi},
	{"getn", tabGetn},
	{"insert", tabInsert},
	{"isarray", tabIsArray},
	{"isempty", tabIsEmpty},
	{"maxn", tabMaxn},
	{"move", tabMove},
	{"new", tabNew},
	{"nkeys", tabNkeys},
	{"pack", tabPack},
	{"remove", tabRemove},
	{"sort", tabSort},
	{"unpack", unpack},
}

func tabClear(l *lua.LState) int {
	t := l.CheckTable(1)
	var keys []lua.LValue
	t.ForEach(func(k, _ lua.LValue) { keys = append(keys, k) })
	for _, k := range keys {
		t.RawSet(k, lua.LNil)
	}
	return 0
}

func tabClone(l *lua.LState) int {
	t, c := l.CheckTable(1), l.NewTable()
	t.ForEach(c.RawSet)
	l.Push(c)
	return 1
}

func tabConcat(l *lua.LState) int {
	t, sep := l.CheckTable(1), l.OptString(2, "")
	first, last := l.OptInt(3, 1), l.OptInt(4, t.Len())
	var b strings.Builder
	for i := first; i <= last; i++ {
		v := t.RawGetInt(i)
		if !lua.LVCanConvToString(v) {
			l.RaiseError("invalid value (%s) in table for 'concat'", v.Type().String())
		}
		if i > first {
			b.WriteString(sep)
		}
		b.WriteString(lua.LVAsString(v))
		if b.Len() > MaxString {
			tooLarge(l)
		}
	}
	l.Push(lua.LString(b.String()))
	return 1
}

// visit calls the function in argument 2, and reports whether it returned
// something, which is then on the stack.
func visit(l *lua.LState, k, v lua.LValue) bool {
	l.Push(l.Get(2))
	l.Push(k)
	l.Push(v)
	l.Call(2, 1)
	if l.Get(-1) != lua.LNil {
		return true
	}
	l.Pop(1)
	return false
}

func tabForeach(l *lua.LState) int {
	t := l.CheckTable(1)
	l.CheckFunction(2)
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		if visit(l, k, v) {
			return 1
		}
	}
	return 0
}

func tabForeachi(l *lua.LState) int {
	t := l.CheckTable(1)
	l.CheckFunction(2)
	for i := 1; i <= t.Len(); i++ {
		if visit(l, lua.LNumber(i), t.RawGetInt(i)) {
			return 1
		}
	}
	return 0
}

func tabGetn(l *lua.LState) int {
	l.Push(lua.LNumber(l.CheckTable(1).Len()))
	return 1
}

func tabInsert(l *lua.LState) int {
	t := l.CheckTable(1)
	switch end := t.Len() + 1; l.GetTop() {
	case 2:
		t.RawSetInt(end, l.Get(2))
	case 3:
		if at := l.CheckInt(2); at >= 1 && at < end {
			t.Insert(at, l.Get(3))
		} else {
			t.RawSetInt(at, l.Get(3)) // as Lua 5.1: nothing moves
		}
	default:
		l.RaiseError("wrong number of arguments to 'insert'")
	}
	return 0
}

func tabRemove(l *lua.LState) int {
	t := l.CheckTable(1)
	n := t.Len()
	at := l.OptInt(2, n)
	if at < 1 || at > n {
		return 0
	}
	l.Push(t.Remove(at))
	return 1
}

// isArray reports whether all keys are positive whole numbers, and returns the
// largest and how many there are.
func isArray(t *lua.LTable) (largest, count int, ok bool) {
	for k, _ := t.Next(lua.LNil); k != lua.LNil; k, _ = t.Next(k) {
		n, number := k.(lua.LNumber)
		if !number || n < 1 || n != lua.LNumber(int64(n)) || n > 1<<31 {
			return 0, 0, false
		}
		largest = max(largest, int(n))
		count++
	}
	return largest, count, true
}

func tabIsArray(l *lua.LState) int {
	largest, count, ok := isArray(l.CheckTable(1))
	l.Push(lua.LBool(ok && largest == count))
	return 1
}

func tabIsEmpty(l *lua.LState) int {
	k, _ := l.CheckTable(1).Next(lua.LNil)
	l.Push(lua.LBool(k == lua.LNil))
	return 1
}

func tabMaxn(l *lua.LState) int {
	largest := lua.LNumber(0)
	l.CheckTable(1).ForEach(func(k, _ lua.LValue) {
		if n, ok := k.(lua.LNumber); ok {
			largest = max(largest, n)
		}
	})
	l.Push(largest)
	return 1
}

func tabMove(l *lua.LState) int {
	from, first, last, at := l.CheckTable(1), l.CheckInt(2), l.CheckInt(3), l.CheckInt(4)
	to := from
	if l.GetTop() > 4 {
		to = l.CheckTable(5)
	}
	if last >= first {
		n := last - first
		if n < 0 || n >= maxArrayPart {
			l.ArgError(3, "too many elements to move")
		}
		if at > first && to == from {
			for i := n; i >= 0; i-- {
				to.RawSetInt(at+i, from.RawGetInt(first+i))
			}
		} else {
			for i := 0; i <= n; i++ {
				to.RawSetInt(at+i, from.RawGetInt(first+i))
			}
		}
	}
	l.Push(to)
	return 1
}

// tabNew takes its sizes for what they are: hints.
func tabNew(l *lua.LState) int {
	l.CheckInt(1)
	l.CheckInt(2)
	l.Push(l.NewTable())
	return 1
}

func tabNkeys(l *lua.LState) int {
	n := 0
	l.CheckTable(1).ForEach(func(_, _ lua.LValue) { n++ })
	l.Push(lua.LNumber(n))
	return 1
}

func tabPack(l *lua.LState) int {
	t := l.NewTable()
	n := l.GetTop()
	for i := 1; i <= n; i++ {
		t.RawSetInt(i, l.Get(i))
	}
	t.RawSetString("n", lua.LNumber(n))
	l.Push(t)
	return 1
}

func tabSort(l *lua.LState) int {
	t := l.CheckTable(1)
	s := &sorter{l: l, values: make([]lua.LValue, t.Len())}
	if l.GetTop() > 1 && l.Get(2) != lua.LNil {
		s.less = l.CheckFunction(2)
	}
	for i := range s.values {
		s.values[i] = t.RawGetInt(i + 1)
	}
	sort.Sort(s)
	for i, v := range s.values {
		t.RawSetInt(i+1, v)
	}
	return 0
}

type sorter struct {
	l      *lua.LState
	less   *lua.LFunction
	values []lua.LValue
}

func (s *sorter) Len() int      { return len(s.values) }
func (s *sorter) Swap(i, j int) { s.values[i], s.values[j] = s.values[j], s.values[i] }

func (s *sorter) Less(i, j int) bool {
	a, b := s.values[i], s.values[j]
	if s.less == nil {
		if a.Type() != b.Type() || a.Type() != lua.LTNumber && a.Type() != lua.LTString {
			s.l.RaiseError("attempt to compare %s with %s", a.Type().String(), b.Type().String())
		}
		return s.l.LessThan(a, b)
	}
	s.l.Push(s.less)
	s.l.Push(a)
	s.l.Push(b)
	s.l.Call(2, 1)
	less := lua.LVAsBool(s.l.Get(-1))
	s.l.Pop(1)
	return less
}
