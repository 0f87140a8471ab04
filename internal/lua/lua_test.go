package lua_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"eventhooks/internal/lua"
)

const (
	kongError  = "return function (data, event, source, pid)\n  local user = data.entity.username\n  error(\"Event hook on consumer \" .. user .. \"\")\nend\n"
	kongReturn = "return function (data, event, source, pid)\n  local user = data.entity.username\n  error(\"Event Hook on consumer \" .. user .. \"\")\n  return true\nend\n"
	kongShort  = "return function (data, event, source, pid) return true end"
)

func TestCheck_accepts(t *testing.T) {
	for name, source := range map[string]string{
		"Kong's example":                        kongReturn,
		"Kong's example that never returns":     kongError,
		"Kong's example in one line":            kongShort,
		"line ends of Windows":                  strings.ReplaceAll(kongReturn, "\n", "\r\n"),
		"a local function":                      "local function f() end return f",
		"what a call returns":                   "local function make() return function() end end\nreturn make()",
		"a global":                              "f = function() end return f;",
		"a field":                               "local m = {} function m.f() end return m.f",
		"a method":                              "local m = {} function m:f() end return m['f']",
		"more than one value":                   "return function() end, 1",
		"a function in brackets":                "return (function() end)",
		"a function in a block":                 "do return function() end end",
		"a function on one of two ways":         "if os then return function() end else return nil end",
		"a function on one way only":            "if os then return function() end end",
		"a function out of a loop":              "for i = 1, 2 do while true do repeat return f until true end end",
		"a choice":                              "return f or 5",
		"a choice that is made":                 "return nil or function() end",
		"another":                               "return 1 and function() end",
		"what a metatable may give":             "return f + 1",
		"what the chunk was given":              "return ...",
		"varargs":                               "return function(...) local a, b = ... return select('#', ...) == 2 end",
		"goto, as LuaJIT has it":                "return function() for i = 1, 3 do if i == 2 then goto continue end print(i) ::continue:: end return true end",
		"strings of every kind":                 "return function() local a = 'it\\'s' .. \"\\65\\n\" .. [[\nlong ]] .. [==[ ]] ]==] return a end",
		"comments of every kind":                "-- one\n--[[ two\n ]] --[==[ three ]] ]==]\nreturn function() end -- four",
		"text beyond ASCII in strings":          "return function() return 'Zoë “😀”' end",
		"numbers of every kind":                 "return function() return 1 + 1.5 + .5 + 1e3 + 1E-3 + 0xfF + 3. end",
		"a call on a new line, made clear":      "return function() local a = f;\n(g or h)() end",
		"calls without brackets":                "return function() require 'x'.y { a = 1 } [[z]] end",
		"a statement after another":             "return function() a() b() c = 1 d.e = 2 f 'x' g{} (h)() end",
		"as many functions in each other as 8":  strings.Repeat("return function() ", 8) + strings.Repeat("end ", 8),
		"a list of a thousand strings":          "local list = {" + numbered(1000, "'value %d', ") + "} return function(data) return list[data.id] end",
		"a choice of two hundred":               "return function(x) return " + strings.Repeat("x == 1 or ", 200) + "false end",
		"a hundred elseifs":                     "return function(x) if x == 0 then return 0" + numbered(100, " elseif x == %[1]d then return %[1]d") + " end end",
		"thousands of statements":               "return function(x)\n" + strings.Repeat("x.a.b = x.c + 1\n", 800) + "end",
		"a hundred and ninety local variables":  "return function() " + numbered(190, "local a%d = 1 ") + "end",
		"32 KB":                                 padded(kongReturn, lua.MaxSourceBytes),
		"a hundred lists in one another":        "return function() return " + strings.Repeat("{", 100) + strings.Repeat("}", 100) + " end",
		"two hundred brackets":                  "return function() return " + strings.Repeat("(", 200) + "x" + strings.Repeat(")", 200) + " end",
		"a number too small to tell from zero":  "return function() return 1e-999 end",
		"a return whose value is on a new line": "return\n\nfunction() end",
	} {
		t.Run(name, func(t *testing.T) {
			if err := lua.Check(source); err != nil {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

func TestCheck_badReturnValue(t *testing.T) {
	for source, kind := range map[string]string{
		"":                           "nil",
		" \n\t":                      "nil",
		"-- nothing":                 "nil",
		";":                          "nil",
		"return":                     "nil",
		"return;":                    "nil",
		"return nil":                 "nil",
		"return nil, function() end": "nil",
		"local f = function() end":   "nil",
		"function f(data, event) return true end": "nil",
		"do local x = 1 end":                      "nil",
		"if x then return 1 end":                  "nil",
		"while true do break end":                 "nil",
		"return 5":                                "number",
		"return -5":                               "number",
		"return - -5":                             "number",
		"return 2 * (3 + 4) ^ '5'":                "number",
		"return #'abc'":                           "number",
		"return (5)":                              "number",
		"return {}":                               "table",
		"return { function() end }":               "table",
		"return 'x'":                              "string",
		"return [[x]]":                            "string",
		"return 'a' .. 1 .. \"b\"":                "string",
		"return true":                             "boolean",
		"return false, function() end":            "boolean",
		"return not f":                            "boolean",
		"return f == g":                           "boolean",
		"return function() end == nil":            "boolean",
		"return true and 5":                       "number",
		"return nil and function() end":           "nil",
		"return 'x' or function() end":            "string",
		"if x then return 1 end return 'x'":       "string",
		"if x then return function() return function() end end end return 5": "",
	} {
		t.Run(source, func(t *testing.T) {
			want := "<nil>"
			if kind != "" {
				want = "Bad return value from function, expected function type, got " + kind
			}
			if err := lua.Check(source); fmt.Sprint(err) != want {
				t.Errorf("Check(%q) = %v; want %s", source, err, want)
			}
		})
	}
}

func TestCheck_syntax(t *testing.T) {
	for _, c := range []struct{ name, source, want string }{
		{"a word that is wrong", "return function()\n  local x == 1\nend", "line 2: syntax error near '=='"},
		{"an expression that is no statement", "return function()\n  1 + 1\nend", "line 2: syntax error near '1'"},
		{"a name that is no statement", "return function()\n  data\nend", "line 3: syntax error near 'end'"},
		{"no end", "return function()\n  if x then\n    y()\n  return true\nend\n\n", "line 5: 'end' expected to close 'function' of line 1, found the end"},
		{"no end at all", "return function()", "line 1: 'end' expected to close 'function' of line 1, found the end"},
		{"one end too many", "return function()\nend\nend", "line 3: there is nothing open for 'end' to close"},
		{"a bracket not closed", "return function()\n  f(1, {2}\nend", "line 3: ')' expected to close '(' of line 2, found 'end'"},
		{"a table not closed", "return function()\n  f({1)\nend", "line 2: '}' expected to close '{' of line 2, found ')'"},
		{"a repeat not closed", "return function()\n repeat x()\nend", "line 3: 'until' expected to close 'repeat' of line 2, found 'end'"},
		{"an index not closed", "return a[1", "line 1: ']' expected to close '[' of line 1, found the end"},
		{"an earlier fault first", "return = 1\nfunction() (", "line 1: syntax error near '='"},
		{"half an expression", "return 1 +\n\n", "line 1: syntax error: the source ends too early"},
		{"a string not closed", "return function()\n  x = 'abc\nend", "line 2: a string that is not closed in its line"},
		{"a string not closed at the end", "x = \"abc", "line 1: a string that is not closed in its line"},
		{"a string that ends with a backslash", "x = 'abc\\", "line 1: a string that is not closed in its line"},
		{"a long string not closed", "\nx = [==[ a\nb ]=]\n\n", "line 2: a string that begins with '[[' or '[=[' and is not closed"},
		{"a long string badly begun", "x = [==a", "line 1: a string that begins with '[[' or '[=[' and is not closed"},
		{"a comment not closed", "\n\n--[[ a\nb\n\n", "line 3: a comment that begins with '--[[' or '--[=[' and is not closed"},
		{"a fault before a string not closed", "x = = 1\ny = 'a", "line 1: syntax error near '='"},
		{"a character of no use", "\nreturn 5 @ 5", "line 2: unexpected character '@'"},
		{"quotes of a word processor", "return function()\r\n  x = \"é\"; y = “a”\r\nend", "line 2: unexpected character '“'"},
		{"a mark of byte order", "\ufeffreturn function() end", `line 1: unexpected character '\ufeff'`},
		{"half an operator", "return a ~ b", "line 1: unexpected character '~'"},
		{"!=", "\n\nreturn a != b", "line 3: unexpected character '!'"},
		{"a shebang", "#!/usr/bin/lua\nreturn function() end", "line 1: syntax error near '#'"},
		{"bytecode", "\x1bLuaQ\x00\x01\x04\x04\x04\x08\x00", "bytecode is not accepted, only source"},
		{"a NUL", "return\x00", `line 1: unexpected character '\x00'`},
		{"a byte that is no text", "return \xff", `line 1: unexpected character '�'`},
		{"a number without digits", "return 0x", "line 1: malformed number near '0x'"},
		{"a number without an exponent", "\nreturn function() return 1e end", "line 2: malformed number near '1e '"},
		{"a number beyond all bounds", "return function() return 1e999 end", "line 1: malformed number near '1e999'"},
		{"a huge number", "return 0x" + strings.Repeat("f", 100), "line 1: malformed number near '0xffffffffffffffffffffffffffffffffffffff...'"},
		{"a long token", "x = 'a' '" + strings.Repeat("é\n", 3) + "'", "line 1: a string that is not closed in its line"},
		{"a token of several lines", "x = [[a\nb\t]] 5", "line 2: syntax error near '5'"},
		{"a token of several lines at fault", "x = 5 [[a\nb\t]]", `line 2: syntax error near 'a\nb\t'`},
		{"break without a loop", "return function()\n  break\nend", "line 2: no loop to break"},
		{"varargs of a function that has none", "return function()\n  return ...\nend", "line 2: cannot use '...' outside a vararg function"},
		{"goto nowhere", "return function()\n\n  goto away\n  x()\nend", "line 3: no visible label 'away' for <goto>"},
		{"goto into a scope", "return function()\n  goto x\n  local a\n  ::x::\n  f(a)\nend", "line 2: <goto x> jumps into the scope of local 'a'"},
		{"two labels of a name", "\n::a::\n::a::", "line 3: label 'a' already defined on line 2"},
		{"too many local variables", "\nreturn function()\n" + strings.Repeat("local a\n", 201) + "end", "line 2: more than 200 local variables and values in one function at a time"},
		{"too many in the chunk", strings.Repeat("local a\n", 201), "line 1: more than 200 local variables and values in one function at a time"},
		{"too many parameters", "\nreturn function(" + strings.Repeat("a,", 201) + "a) end", "line 2: more than 200 local variables and values in one function at a time"},
		{"too many values at once", "return function() return x" + strings.Repeat(",x", 201) + " end", "line 1: more than 200 local variables and values in one function at a time"},
		{"too many variables of functions around", manyUpvalues(256), "line 3: a function that uses more than 255 variables of the functions around it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := "Error parsing function: " + c.want
			if err := lua.Check(c.source); err == nil || err.Error() != want {
				t.Errorf("Check(%q)\n  = %v\nwant %s", c.source, err, want)
			}
		})
	}
}

func TestCheck_varsOfFunctionsAroundAtTheBound(t *testing.T) {
	if err := lua.Check(manyUpvalues(lua.MaxUpvalues)); err != nil {
		t.Errorf("Check: %v", err)
	}
}

// manyUpvalues is a function in line 3 that uses n variables of two others.
func manyUpvalues(n int) string {
	return "return function(" + numbered(128, "a%d,") + "a) return\nfunction(" + numbered(128, "b%d,") + "b) return\nfunction()\n" +
		numbered(128, "f(a%d) ") + numbered(n-128, "f(b%d) ") + "end end end"
}

// numbered repeats format with 0 to n-1.
func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// padded is a source with a comment after it, size bytes together.
func padded(source string, size int) string {
	return source + "--" + strings.Repeat("x", size-len(source)-2)
}

// filled repeats unit as often as the size of a source allows.
func filled(before, unit, after string) string {
	return before + strings.Repeat(unit, (lua.MaxSourceBytes-len(before)-len(after))/len(unit)) + after
}

// nested opens as often as the size allows, and closes as often.
func nested(before, open, middle, end, after string) string {
	n := (lua.MaxSourceBytes - len(before) - len(middle) - len(after)) / (len(open) + len(end))
	return before + strings.Repeat(open, n) + middle + strings.Repeat(end, n) + after
}

const (
	tooDeep      = "nested more than 500 deep, the operators, indexes and calls of one expression included"
	tooMany      = "more than 10000 names, values and symbols"
	tooDifferent = "too many different names, numbers and strings"
	tooFunctions = "functions within functions, more than 8 deep"
)

// bombs are what a source of 32 KB can be to a parser and a compiler. Without
// the bounds of this package the worst takes seconds. An empty want: any
// verdict, soon.
var bombs = []struct{ name, source, want string }{
	{"open brackets", filled("return ", "(", ""), tooDeep},
	{"brackets", nested("return ", "(", "1", ")", ""), tooDeep},
	{"open tables", filled("return ", "{", ""), tooDeep},
	{"tables", nested("return ", "{", "1", "}", ""), tooDeep},
	{"tables in keys", nested("return ", "{[", "1", "]=1}", ""), tooDeep},
	{"indexes in indexes", nested("return ", "a[", "a", "]", ""), tooDeep},
	{"calls in calls", nested("return ", "a(", "a", ")", ""), tooDeep},
	{"functions in functions", nested("", "return function() ", "", "end ", ""), tooFunctions},
	{"too many functions", filled("return{", "function()end,", "}"), tooMany},
	{"blocks", nested("", "do ", "", "end ", ""), tooDeep},
	{"open blocks", filled("", "do ", ""), tooDeep},
	{"ifs", nested("", "if a then ", "", "end ", ""), tooDeep},
	{"elses", nested("", "if a then else ", "", "end ", ""), tooDeep},
	{"loops", nested("", "while a do ", "", "end ", ""), tooDeep},
	{"for loops", nested("", "for a=1,1 do ", "", "end ", ""), tooDeep},
	{"repeats", nested("", "repeat ", "", "until a ", ""), tooDeep},
	{"elseifs", filled("if a then ", "elseif a then ", "end"), tooDeep},
	{"additions", filled("return a", "+a", ""), tooDeep},
	{"additions in brackets", nested("return ", "(", "a", "+a)", ""), tooDeep},
	{"additions to brackets", nested("return ", "a+(", "a", ")", ""), tooDeep},
	{"additions of numbers", filled("return 1", "+1", ""), tooDeep},
	{"powers", filled("return a", "^a", ""), tooDeep},
	{"concatenations", filled("return a", "..a", ""), tooDeep},
	{"minuses", filled("return ", "- ", "a"), tooDeep},
	{"nots", filled("return ", "not ", "a"), tooDeep},
	{"nots of an if", filled("if ", "not ", "a then end"), tooDeep},
	{"lengths", filled("return ", "#", "a"), tooDeep},
	{"ors", filled("return a", " or a", ""), tooDeep},
	{"ors and ands", filled("return a", " or a and a", ""), tooDeep},
	{"comparisons", filled("return a", "<a", ""), tooDeep},
	{"fields", filled("return a", ".a", ""), tooDeep},
	{"fields assigned to", filled("a", ".a", "=1"), tooDeep},
	{"fields of a function's name", filled("function a", ".a", "() end"), tooDeep},
	{"indexes", filled("return a", "[a]", ""), tooDeep},
	{"calls", filled("return a", "()", ""), tooDeep},
	{"calls with strings", filled("return a", `""`, ""), tooDeep},
	{"calls with tables", filled("return a", "{}", ""), tooDeep},
	{"methods", filled("return a", ":a()", ""), tooDeep},
	{"additions, each expression as long as it may be", "return{" + strings.Repeat("a"+strings.Repeat("+a", 490)+",", 10) + "}", ""},
	{"sums in brackets, each as long as it may be", "return{" + strings.Repeat(strings.Repeat("(", 240)+"a"+strings.Repeat("+a)", 240)+",", 10) + "}", ""},
	{"minuses, each expression as long as it may be", "return{" + strings.Repeat(strings.Repeat("- ", 490)+"a,", 20) + "}", ""},
	{"concatenations, each as long as it may be", "return function()" + strings.Repeat("a=a"+strings.Repeat("..a", 180)+" ", 27) + "end", ""},
	{"comparisons, each as long as it may be", "return{" + strings.Repeat("a"+strings.Repeat("<a", 490)+",", 10) + "}", ""},
	{"many functions", "return{" + strings.Repeat("function()end,", 1990) + "}", ""},
	{"blocks with gotos", strings.Repeat("do ", 480) + strings.Repeat("goto a ", 4000) + strings.Repeat("end ", 480), ""},
	{"elseifs with gotos", "if a then " + strings.Repeat("elseif a then goto b goto b ", 480) + strings.Repeat("goto b ", 2000) + "end ::b::", ""},
	{"names", filled("return a", ",a", ""), tooMany},
	{"assignments", filled("", "a=a ", ""), tooMany},
	{"assigned to", filled("a", ",a", "=1"), tooMany},
	{"parameters", filled("return function(a", ",a", ") end"), tooMany},
	{"different numbers", "return{" + numbered(5000, "%d,") + "}", tooDifferent},
	{"different strings", "return{" + numbered(3500, "'%d',") + "}", tooDifferent},
	{"different names", "return{" + numbered(3500, "a%d,") + "}", tooDifferent},
	{"different labels", numbered(3300, "::a%x::"), tooDifferent},
	{"gotos and labels", numbered(900, "goto a%x ") + numbered(900, "::a%x::"), ""},
	{"as many different names as there may be", "return{" + numbered(3100, "a%x,") + "}", ""},
	{"as many different numbers as there may be", "return{" + numbered(3100, "%d,") + "}", ""},
	{"a thousand different strings, and one many times", "return{" + numbered(1000, "'%d',") + strings.Repeat("'999',", 3900) + "}", ""},
	{"numbers that equal nothing", "return{" + strings.Repeat("0/0,", 2490) + "}", ""},
	{"sums that are all different", "return{" + numbered(1000, "%[1]d+1e5,%[1]d-1e6,") + "}", ""},
	{"parameters at every level, and names that are none", strings.Repeat("return function("+strings.Repeat("a,", 189)+"a) ", 8) +
		"return{" + strings.Repeat("b,", 3000) + "}" + strings.Repeat(" end", 8), ""},
	{"variables of functions around", levels(8, 190, 1), ""},
	{"variables of functions around, some more", levels(8, 120, 3), ""},
	{"variables of functions around, as many as there may be", levels(8, 31, 17), ""},
	{"open string", filled("return '", "x", ""), "a string that is not closed in its line"},
	{"string", filled("return '", "x", "'"), ""},
	{"escapes", filled("return '", `\n`, "'"), ""},
	{"decimal escapes", filled("return '", `\255`, "'"), ""},
	{"open long brackets", filled("return [", "=", "["), "a string that begins with '[[' or '[=[' and is not closed"},
	{"a long bracket without its second", filled("return [", "=", ""), "a string that begins with '[[' or '[=[' and is not closed"},
	{"almost the end of a long string", filled("return [=[", "]=", "]"), ""},
	{"open comment", filled("--[", "=", "["), "a comment that begins with '--[[' or '--[=[' and is not closed"},
	{"comments", filled("", "--\n", ""), ""},
	{"lines", filled("", "\n", ""), ""},
	{"semicolons", filled("", ";", ""), tooMany},
	{"digits", filled("return ", "9", ""), "malformed number near '9999999999999999999999999999999999999999...'"},
	{"hexadecimal digits", filled("return 0x", "f", ""), "malformed number near '0xffffffffffffffffffffffffffffffffffffff...'"},
	{"an exponent", filled("return 1e", "9", ""), "malformed number near '1e99999999999999999999999999999999999999...'"},
	{"a fraction", filled("return .", "0", "1"), ""},
	{"a name", filled("return ", "a", ""), ""},
	{"bytes that are no text", filled("return '", "\xff", "'"), ""},
	{"varargs", "return ..." + strings.Repeat(",...", 4990), ""},
	{"too large by one", padded(kongShort, lua.MaxSourceBytes+1), "larger than 32 KB"},
}

// levels are functions in one another, each with vars parameters, the innermost
// of which uses all of them, several times.
func levels(depth, vars, times int) string {
	var before, uses strings.Builder
	for i := range depth {
		names := numbered(vars, string(rune('a'+i))+"%x,")
		before.WriteString("return function(" + names + "z) ")
		uses.WriteString(names)
	}
	return before.String() + "return{" + strings.Repeat(uses.String(), times) + "}" + strings.Repeat(" end", depth)
}

func TestCheck_bombs(t *testing.T) {
	for _, c := range bombs {
		t.Run(c.name, func(t *testing.T) {
			if len(c.source) > lua.MaxSourceBytes+1 {
				t.Fatalf("the source has %d bytes", len(c.source))
			}
			took, allocated, err := measured(c.source)
			for range 2 { // the machine may be busy
				if took > time.Second {
					took, allocated, err = measured(c.source)
				}
			}
			if c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), c.want)) {
				t.Errorf("Check: %v; want ... %s", err, c.want)
			}
			t.Logf("%6.1f ms, %5.1f MB: %v", took.Seconds()*1e3, allocated, err)
			// 100 ms is the aim; seconds would be the bomb.
			if took > time.Second {
				t.Errorf("Check took %s", took)
			}
			if allocated > 64 {
				t.Errorf("Check allocated %.0f MB", allocated)
			}
		})
	}
}

// measured returns what Check says, how long it took and how many MB it
// allocated, whether they were in use at one time or not.
func measured(source string) (took time.Duration, mb float64, err error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	err = lua.Check(source)
	took = time.Since(start)
	runtime.ReadMemStats(&after)
	return took, float64(after.TotalAlloc-before.TotalAlloc) / 1e6, err
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{kongError, kongReturn, kongShort, "return make()", "local function f() end return f", "", "return 5, 0x1p4, 1e, [==[x]==], 'a\\10\\\n'"} {
		f.Add(s)
	}
	for _, c := range bombs {
		f.Add(c.source[:min(len(c.source), 300)])
	}
	f.Add("goto a do local b = function() return a, b end ::a:: end repeat local x until x while a do break end for i, j in f{} do a:b'x'.c[1] = i .. j end")
	f.Fuzz(func(t *testing.T, source string) {
		took, allocated, err := measured(source)
		if err != nil {
			text := err.Error()
			if !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r\t\x00") || len(text) > 300 {
				t.Errorf("Check(%q) says %q", source, text)
			}
			if !strings.HasPrefix(text, "Error parsing function: ") && !strings.HasPrefix(text, "Bad return value from function, expected function type, got ") {
				t.Errorf("Check(%q) says %q", source, text)
			}
			var line int
			if _, err := fmt.Sscanf(text, "Error parsing function: line %d:", &line); err == nil {
				if most := 1 + strings.Count(source, "\n") + strings.Count(source, "\r"); line < 1 || line > most {
					t.Errorf("Check(%q) says %q; the source has %d lines", source, text, most)
				}
			}
		}
		if took > 5*time.Second || allocated > 64 {
			t.Errorf("Check(%q) took %s and %.0f MB", source, took, allocated)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := lua.Check(kongReturn); err != nil {
			b.Fatal(err)
		}
	}
}
