package lua

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// hint is what the scan knows of a fault that the parser is going to find.
type hint struct {
	line    int
	text    string
	token   string // the parser stops at it; "" at the end of the source
	opened  int    // the line of what is open there; 0 for nothing
	lexical string // the parser's own message where a token is at fault
}

// level is one thing that is open: a bracket, a block, a function.
type level struct {
	opener int // the token's type; 0 for the chunk
	name   string
	line   int

	base int // how deep it is
	// The expression that is being read.
	operand bool // the last token ended an operand
	ops     int  // its operators, indexes and calls
	deep    int  // the deepest of its operands
	done    int  // the deepest of what is finished
	elses   int  // of an if: each is nested in the one before
}

// height bounds how deep a tree the parser makes of the level so far.
func (l *level) height() int { return l.elses + max(l.done, l.ops+l.deep) }

// finish ends an expression or a statement.
func (l *level) finish() {
	l.done = max(l.done, l.ops+l.deep)
	l.ops, l.deep, l.operand = 0, 0, false
}

// begin begins an operand. Where there was one before it and nothing between,
// this is the next statement.
func (l *level) begin() {
	if l.operand {
		l.finish()
	}
}

// suffix counts a call or an index.
func (l *level) suffix() {
	if l.operand {
		l.ops++
	}
}

// scanner reads tokens as the parser does, with the parser's own reader of
// them, and keeps count of what parsing them will cost.
type scanner struct {
	levels    []level // never empty: the chunk
	functions int     // that are open
	distinct  map[string]struct{}
	lookups   int
	shown     func(line int) int // a line as a message names it
}

// scan refuses a source that would cost the parser or the compiler too much
// time, memory or stack. A source that is not Lua is for the parser to refuse;
// the hint is of what it will find, nil when the scan saw no fault. shown says
// how messages number the lines of what is open; nil as they are.
func scan(source string, shown func(line int) int) (*hint, error) {
	switch {
	case len(source) > MaxSourceBytes:
		return nil, fmt.Errorf("larger than %d KB", MaxSourceBytes>>10)
	case strings.HasPrefix(source, "\x1b"):
		return nil, errors.New("bytecode is not accepted, only source")
	}
	if shown == nil {
		shown = func(line int) int { return line }
	}
	s := scanner{levels: make([]level, 1, 32), distinct: map[string]struct{}{}, shown: shown}
	reader := parse.NewScanner(strings.NewReader(source), "")
	for n := 1; ; n++ {
		t, err := reader.Scan(&parse.Lexer{})
		switch {
		case err != nil:
			return badToken(source, t, err)
		case t.Type == parse.EOF:
			return s.end(source), nil
		case n > MaxTokens:
			return nil, atLine(t.Pos.Line, "more than %d names, values and symbols", MaxTokens)
		}
		h, err := s.take(t)
		if h != nil || err != nil {
			return h, err
		}
	}
}

// badToken says what is no token.
func badToken(source string, t ast.Token, err error) (*hint, error) {
	e, ok := errors.AsType[*parse.Error](err)
	if !ok {
		return nil, errors.New("this source cannot be parsed")
	}
	h := &hint{line: t.Pos.Line, lexical: e.Message}
	switch e.Message {
	case "unterminated string":
		h.text = "a string that is not closed in its line"
	case "unterminated multiline string", "invalid multiline string":
		h.text = "a string that begins with '[[' or '[=[' and is not closed"
	case "invalid multiline comment":
		h.text = "a comment that begins with '--[[' or '--[=[' and is not closed"
	case "illegal hexadecimal number":
		h.text = "malformed number near " + quoted(e.Token)
	default:
		h.text = "unexpected character " + quoted(character(source, e))
	}
	return h, nil
}

// character returns the whole character of which the reader of tokens, which
// reads bytes, refused the first.
func character(source string, e *parse.Error) string {
	rest := source
	for line := 1; line < e.Pos.Line && rest != ""; line++ {
		i := strings.IndexAny(rest, "\r\n")
		if i < 0 {
			return e.Token
		}
		if i+1 < len(rest) && newlines(rest[i:i+2]) == 1 && strings.IndexByte("\r\n", rest[i+1]) >= 0 {
			i++
		}
		rest = rest[i+1:]
	}
	if at := e.Pos.Column - 1; at >= 0 && at < len(rest) {
		_, size := utf8.DecodeRuneInString(rest[at:])
		return rest[at : at+size]
	}
	return e.Token
}

// take counts one token.
func (s *scanner) take(t ast.Token) (*hint, error) {
	l := &s.levels[len(s.levels)-1]
	switch t.Type {
	case parse.TIdent, parse.TNumber, parse.TString, parse.TNil, parse.TTrue, parse.TFalse, parse.T3Comma:
		if t.Type == parse.TString {
			l.suffix() // f "x"
		} else {
			l.begin()
		}
		l.operand = true
		if err := s.constant(t); err != nil {
			return nil, err
		}
	case '(', '{', '[':
		l.suffix()
		return nil, s.open(t)
	case parse.TFunction:
		l.begin()
		if s.functions++; s.functions > MaxFunctionDepth {
			return nil, atLine(t.Pos.Line, "functions within functions, more than %d deep", MaxFunctionDepth)
		}
		return nil, s.open(t)
	case parse.TIf, parse.TDo, parse.TRepeat:
		l.finish()
		return nil, s.open(t)
	case ')', '}', ']', parse.TEnd, parse.TUntil:
		return s.close(t), nil
	case parse.TElse, parse.TElseIf:
		l.finish()
		l.elses++
	case ',', ';', '=', parse.TThen, parse.TLocal, parse.TReturn, parse.TBreak, parse.TGoto, parse.TFor, parse.TIn, parse.TWhile, parse.T2Colon:
		l.finish()
	default: // an operator, or the '.' or ':' of an index or a call
		l.ops++
		l.operand = false
	}
	return nil, l.check(t)
}

func (l *level) check(t ast.Token) error {
	if l.base+l.height() > MaxDepth {
		return atLine(t.Pos.Line, "nested more than %d deep, the operators, indexes and calls of one expression included", MaxDepth)
	}
	return nil
}

// constant counts what the compiler keeps a list of. A number that it could not
// read would silently become one that equals nothing.
func (s *scanner) constant(t ast.Token) error {
	switch t.Type {
	case parse.TNumber:
		if _, err := strconv.ParseInt(t.Str, 0, 64); err != nil {
			if _, err := strconv.ParseFloat(t.Str, 64); err != nil {
				return atLine(t.Pos.Line, "malformed number near %s", quoted(t.Str))
			}
		}
		s.distinct["\x00"+t.Str] = struct{}{}
	case parse.TIdent, parse.TString:
		s.distinct[t.Str] = struct{}{}
	default:
		return nil
	}
	if s.lookups += len(s.distinct); s.lookups > MaxLookups {
		return atLine(t.Pos.Line, "too many different names, numbers and strings")
	}
	return nil
}

func (s *scanner) open(t ast.Token) error {
	l := &s.levels[len(s.levels)-1]
	s.levels = append(s.levels, level{opener: t.Type, name: t.Str, line: t.Pos.Line, base: l.base + l.elses + l.ops + 1})
	return s.levels[len(s.levels)-1].check(t)
}

// close ends the level that t closes. When it closes another one, or none, the
// parser gets no further than here.
func (s *scanner) close(t ast.Token) *hint {
	l := s.levels[len(s.levels)-1]
	if closer(l.opener) != t.Str {
		h := &hint{line: t.Pos.Line, token: t.Str}
		if l.opener == 0 {
			h.text = fmt.Sprintf("there is nothing open for %s to close", quoted(t.Str))
		} else {
			h.text = fmt.Sprintf("%s, found %s", s.missing(l), quoted(t.Str))
		}
		return h
	}
	s.levels = s.levels[:len(s.levels)-1]
	around := &s.levels[len(s.levels)-1]
	switch l.opener {
	case '(', '{', '[', parse.TFunction:
		around.deep = max(around.deep, l.height()+1)
		around.operand = true
	default: // a statement; what follows until is an expression
		around.done = max(around.done, l.height()+1)
	}
	if l.opener == parse.TFunction {
		s.functions--
	}
	return nil
}

// end is the hint of what is open where the source ends.
func (s *scanner) end(source string) *hint {
	l := s.levels[len(s.levels)-1]
	if l.opener == 0 {
		return nil
	}
	return &hint{line: lines(source), text: s.missing(l) + ", found the end", opened: l.line}
}

func (s *scanner) missing(l level) string {
	return fmt.Sprintf("'%s' expected to close '%s' of line %d", closer(l.opener), l.name, s.shown(l.line))
}

func closer(opener int) string {
	switch opener {
	case '(':
		return ")"
	case '{':
		return "}"
	case '[':
		return "]"
	case parse.TRepeat:
		return "until"
	case parse.TFunction, parse.TIf, parse.TDo:
		return "end"
	}
	return ""
}
