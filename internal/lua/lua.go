// Package lua checks the Lua functions of lambda hooks and the scripts of
// templates when they are saved, and runs them when something has happened. The
// source of a function is a chunk such as
//
//	return function (data, event, source, pid)
//	  return true
//	end
//
// Check executes nothing: a source is parsed and compiled, and what it returns
// is judged from what is written: is it Lua 5.1, and does it return a function?
// No source can hurt the process that checks it: what is larger or deeper than
// the bounds below is refused before it is parsed. Bytecode is never loaded.
//
// A Pool runs functions in child processes of the same program, because what
// interprets Lua can be stopped only with its process. What functions can reach
// there is in package sandbox.
package lua

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"

	"eventhooks/internal/hook"
)

// Bounds of what is accepted.
const (
	MaxSourceBytes = hook.MaxFunctionBytes

	// MaxTokens bounds the names, values, keywords and symbols of a source:
	// the compiler's work grows with their square.
	MaxTokens = 10_000
	// MaxLookups bounds the different names, numbers and strings of a source,
	// so that some 3,000 fit: the compiler looks each name, number and string up
	// in the list of those before it, and this is how many it may compare.
	MaxLookups = 5_000_000
	// MaxDepth bounds how deep a source is nested. What is in brackets, a block
	// or a function is one deeper, and so is each operator, index and call of
	// one expression, and each elseif: the parser and the compiler use the
	// stack for them all.
	MaxDepth = 500
	// MaxFunctionDepth bounds functions within functions.
	MaxFunctionDepth = 8
	// MaxUpvalues bounds the variables of the functions around it that one
	// function uses: the interpreter counts them in a byte.
	MaxUpvalues = 255
)

// Check reports why a source is no function of a lambda hook, in the words of
// Kong: "Error parsing function: line 3: ..." when it is not Lua or exceeds the
// bounds of this package, "Bad return value from function, expected function
// type, got <type>" when it is certain without running it that it does not
// return a function first. nil when it is fine as far as can be told.
func Check(source string) error {
	kind, err := compile(source)
	if err != nil {
		return errors.New("Error parsing function: " + err.Error())
	}
	if kind != typeFunction {
		return errors.New("Bad return value from function, expected function type, got " + kind)
	}
	return nil
}

// compile parses and compiles a source, throws the code away, and returns the
// type of what the chunk returns. Its errors begin with a line of the source
// where there is one.
func compile(source string) (kind string, err error) {
	defer func() {
		// A panic of the library is a source that it cannot take: no reason to
		// take the process along.
		if p := recover(); p != nil {
			kind, err = "", errors.New("this source cannot be compiled")
		}
	}()
	hint, err := scan(source, nil)
	if err != nil {
		return "", err
	}
	chunk, err := parse.Parse(strings.NewReader(source), "")
	if err != nil {
		return "", syntaxError(source, err, hint)
	}
	kind = returned(chunk) // before the compiler, which folds constants in place
	return kind, compileChunk(chunk)
}

func compileChunk(chunk []ast.Stmt) error {
	proto, err := lua.Compile(chunk, "")
	if err != nil {
		return compileError(err)
	}
	return checkUpvalues(proto)
}

// lineError is what is wrong at a line of a source.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return "line " + strconv.Itoa(e.line) + ": " + e.text }

func atLine(line int, format string, args ...any) error {
	return &lineError{max(line, 1), fmt.Sprintf(format, args...)}
}

// syntaxError says what the parser found. Where the scan saw more of it than
// the parser, its hint is better: the parser knows of an unclosed block only
// that something is missing at the end.
func syntaxError(source string, err error, hint *hint) error {
	e, ok := errors.AsType[*parse.Error](err)
	if !ok {
		return errors.New("this source cannot be parsed")
	}
	line := e.Pos.Line
	switch {
	case hint != nil && (hint.lexical == e.Message || line == hint.line && e.Token == hint.token):
		return atLine(hint.line, "%s", hint.text)
	case line == parse.EOF && hint != nil:
		return atLine(hint.line, "%s", hint.text)
	case line == parse.EOF:
		return atLine(lines(source), "syntax error: the source ends too early")
	}
	return atLine(line, "syntax error near %s", quoted(e.Token))
}

// compileError says what the compiler found, at the line where the fault is: the
// compiler itself is off by some with labels, and counts the chunk as line 0.
func compileError(err error) error {
	e, ok := errors.AsType[*lua.CompileError](err)
	if !ok {
		return errors.New("this source cannot be compiled")
	}
	line, text := e.Line, e.Message
	if before, after, ok := strings.Cut(text, " at line "); ok { // no visible label 'x' for <goto> at line 3
		digits := after[:len(after)-len(strings.TrimLeft(after, "0123456789"))]
		if n, err := strconv.Atoi(digits); err == nil {
			line, text = n, before+after[len(digits):]
		}
	} else if strings.HasPrefix(text, "label ") { // label 'x' already defined on line 1
		line--
	}
	if strings.Contains(text, "too many local variables") || strings.Contains(text, "register overflow") {
		text = "more than 200 local variables and values in one function at a time"
	}
	return atLine(line, "%s", text)
}

func checkUpvalues(p *lua.FunctionProto) error {
	if len(p.DbgUpvalues) > MaxUpvalues {
		return atLine(p.LineDefined, "a function that uses more than %d variables of the functions around it", MaxUpvalues)
	}
	for _, sub := range p.FunctionPrototypes {
		if err := checkUpvalues(sub); err != nil {
			return err
		}
	}
	return nil
}

// lines returns the number of the last line that has anything on it.
func lines(source string) int {
	return 1 + newlines(strings.TrimRight(source, " \t\r\n"))
}

// newlines counts line ends as the library does: \r\n and \n\r are one.
func newlines(s string) (n int) {
	for i := 0; i < len(s); i++ {
		if s[i] != '\n' && s[i] != '\r' {
			continue
		}
		n++
		if i+1 < len(s) && s[i+1] != s[i] && (s[i+1] == '\n' || s[i+1] == '\r') {
			i++
		}
	}
	return n
}

// quoted is a token as a message shows it: whole characters, one line, short.
func quoted(token string) string {
	const most = 40
	var b strings.Builder
	n := 0
	for _, r := range token {
		if n++; n > most {
			b.WriteString("...")
			break
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'")) // \n, \x00, \ufeff
		}
	}
	return "'" + b.String() + "'"
}
