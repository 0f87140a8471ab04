package lua

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"

	"eventhooks/internal/lua/sandbox"
	"eventhooks/internal/render"
)

// CheckScript reports why the script of a template cannot be run, as a fault of
// one of its tags where one is at fault; nil when it is fine as far as can be
// told. Like Check it executes nothing, and no source can hurt it: the script is
// held to the bounds of a function before it is parsed.
func CheckScript(s *render.Script) *render.Error {
	_, fault := parseScript(s)
	return fault
}

// ScriptNames returns the top-level names of an event that a script uses,
// sorted: its free names but those that it sets, and those that every script
// has. It returns none for one that CheckScript refuses.
func ScriptNames(s *render.Script) []string {
	chunk, fault := parseScript(s)
	if fault != nil {
		return nil
	}
	n := names{read: map[string]struct{}{}, set: map[string]struct{}{}, scope: &scope{}}
	n.block(chunk)
	maps.DeleteFunc(n.read, func(name string, _ struct{}) bool {
		_, set := n.set[name]
		return set || sandbox.Global(name)
	})
	return slices.Sorted(maps.Keys(n.read))
}

const unfinished = "something is missing at the end of this tag, or nothing may follow it"

// parseScript parses and compiles a script. Each tag has to be whole by itself,
// so that none swallows what follows it: its strings and comments end in it, and
// an expression is one.
func parseScript(s *render.Script) (chunk []ast.Stmt, fault *render.Error) {
	defer func() {
		if p := recover(); p != nil { // as in compile
			chunk, fault = nil, s.Fault(0, "this template cannot be compiled")
		}
	}()
	if len(s.Source) > MaxSourceBytes {
		return nil, s.Fault(0, fmt.Sprintf("more than %d KB of expressions and statements", MaxSourceBytes>>10))
	}
	codes := s.Codes()
	for _, c := range codes {
		if text := checkTokens(c.Text); text != "" {
			return nil, s.Fault(c.Line, text)
		}
	}
	hint, err := scan(s.Source, s.Line)
	if err != nil {
		return nil, scriptFault(s, err)
	}
	for _, c := range codes {
		if !c.Expr {
			continue
		}
		if text := checkExpression(c.Text); text != "" {
			return nil, s.Fault(c.Line, text)
		}
	}
	chunk, err = parse.Parse(strings.NewReader(s.Source), "")
	if err != nil {
		e, ok := errors.AsType[*parse.Error](err)
		switch {
		case ok && e.Pos.Line != parse.EOF && (hint == nil || hint.token != e.Token) && nothingFits(s.Source, s.Begin(e.Pos.Line)):
			return nil, s.Before(s.Begin(e.Pos.Line), unfinished)
		case hint != nil && hint.opened > 0:
			return nil, s.Fault(hint.opened, hint.text)
		case ok && e.Pos.Line == parse.EOF && hint == nil:
			return nil, s.Before(lines(s.Source)+1, unfinished)
		}
		return nil, scriptFault(s, syntaxError(s.Source, err, hint))
	}
	if err := compileChunk(chunk); err != nil {
		return nil, scriptFault(s, err)
	}
	// The compiler has folded constants, which are no names.
	return chunk, nil
}

// nothingFits reports whether not even text could stand where a piece of a script
// begins, at the line given: then what is before it is at fault. There is nothing
// wrong before that line but what is missing, or what nothing may follow.
func nothingFits(source string, line int) bool {
	at := 0
	for range line - 1 {
		at += strings.IndexByte(source[at:], '\n') + 1
	}
	_, err := parse.Parse(strings.NewReader(source[:at]+";"+render.ScriptPut+"()\n"), "")
	e, ok := errors.AsType[*parse.Error](err)
	return ok && e.Pos.Line == line
}

func scriptFault(s *render.Script, err error) *render.Error {
	if e, ok := errors.AsType[*lineError](err); ok {
		return s.Fault(e.line, e.text)
	}
	return s.Fault(0, err.Error())
}

// checkTokens says why the Lua of one tag is not whole; "" when it is.
func checkTokens(code string) string {
	reader := parse.NewScanner(strings.NewReader(code), "")
	for {
		t, err := reader.Scan(&parse.Lexer{})
		switch {
		case err != nil:
			h, err := badToken(code, t, err)
			if err != nil {
				return err.Error()
			}
			return h.text
		case t.Type == parse.EOF:
			return ""
		case t.Type == parse.TIdent && t.Str == render.ScriptPut:
			return "the name " + render.ScriptPut + " is taken"
		}
	}
}

// checkExpression says why code, whose tokens are whole and within bounds, is
// not one expression; "" when it is.
func checkExpression(code string) string {
	chunk, err := parse.Parse(strings.NewReader("return "+code+"\n"), "")
	if e, ok := errors.AsType[*parse.Error](err); ok && e.Pos.Line != parse.EOF {
		return "not an expression: syntax error near " + quoted(e.Token)
	}
	if err == nil && len(chunk) == 1 {
		if r, ok := chunk[0].(*ast.ReturnStmt); ok && len(r.Exprs) == 1 {
			return ""
		}
	}
	if err != nil {
		return "not an expression: it ends too early"
	}
	return "not one expression"
}

// names finds the free names of a chunk.
type names struct {
	read, set map[string]struct{}
	scope     *scope
}

// scope are the variables of a block.
type scope struct {
	outer *scope
	vars  []string
}

func (n *names) free(name string) bool {
	for s := n.scope; s != nil; s = s.outer {
		if slices.Contains(s.vars, name) {
			return false
		}
	}
	return true
}

func (n *names) declare(vars ...string) { n.scope.vars = append(n.scope.vars, vars...) }

// within looks at a block that sees the variables given.
func (n *names) within(block []ast.Stmt, vars ...string) {
	n.scope = &scope{outer: n.scope, vars: vars}
	n.block(block)
	n.scope = n.scope.outer
}

func (n *names) block(stmts []ast.Stmt) {
	for _, stmt := range stmts {
		n.stmt(stmt)
	}
}

func (n *names) stmt(stmt ast.Stmt) {
	switch s := stmt.(type) {
	case *ast.AssignStmt:
		n.exprs(s.Rhs...)
		for _, e := range s.Lhs {
			if v, ok := e.(*ast.IdentExpr); ok {
				if n.free(v.Value) {
					n.set[v.Value] = struct{}{}
				}
				continue
			}
			n.exprs(e)
		}
	case *ast.LocalAssignStmt:
		if len(s.Exprs) == 1 {
			if f, ok := s.Exprs[0].(*ast.FunctionExpr); ok { // local function f: it may call itself
				n.declare(s.Names...)
				n.exprs(f)
				return
			}
		}
		n.exprs(s.Exprs...)
		n.declare(s.Names...)
	case *ast.FuncCallStmt:
		n.exprs(s.Expr)
	case *ast.DoBlockStmt:
		n.within(s.Stmts)
	case *ast.WhileStmt:
		n.exprs(s.Condition)
		n.within(s.Stmts)
	case *ast.RepeatStmt:
		n.scope = &scope{outer: n.scope}
		n.block(s.Stmts)
		n.exprs(s.Condition) // sees the block's variables
		n.scope = n.scope.outer
	case *ast.IfStmt:
		n.exprs(s.Condition)
		n.within(s.Then)
		n.within(s.Else)
	case *ast.NumberForStmt:
		n.exprs(s.Init, s.Limit, s.Step)
		n.within(s.Stmts, s.Name)
	case *ast.GenericForStmt:
		n.exprs(s.Exprs...)
		n.within(s.Stmts, s.Names...)
	case *ast.FuncDefStmt:
		if s.Name.Func == nil { // of a method
			n.exprs(s.Name.Receiver)
			n.within(s.Func.Stmts, append([]string{"self"}, s.Func.ParList.Names...)...)
			return
		}
		if v, ok := s.Name.Func.(*ast.IdentExpr); ok && n.free(v.Value) {
			n.set[v.Value] = struct{}{}
		} else {
			n.exprs(s.Name.Func)
		}
		n.exprs(s.Func)
	case *ast.ReturnStmt:
		n.exprs(s.Exprs...)
	}
}

func (n *names) exprs(list ...ast.Expr) {
	for _, expr := range list {
		switch e := expr.(type) {
		case *ast.IdentExpr:
			if n.free(e.Value) {
				n.read[e.Value] = struct{}{}
			}
		case *ast.AttrGetExpr:
			n.exprs(e.Object, e.Key)
		case *ast.TableExpr:
			for _, f := range e.Fields {
				n.exprs(f.Key, f.Value)
			}
		case *ast.FuncCallExpr:
			n.exprs(e.Func, e.Receiver)
			n.exprs(e.Args...)
		case *ast.LogicalOpExpr:
			n.exprs(e.Lhs, e.Rhs)
		case *ast.RelationalOpExpr:
			n.exprs(e.Lhs, e.Rhs)
		case *ast.StringConcatOpExpr:
			n.exprs(e.Lhs, e.Rhs)
		case *ast.ArithmeticOpExpr:
			n.exprs(e.Lhs, e.Rhs)
		case *ast.UnaryMinusOpExpr:
			n.exprs(e.Expr)
		case *ast.UnaryNotOpExpr:
			n.exprs(e.Expr)
		case *ast.UnaryLenOpExpr:
			n.exprs(e.Expr)
		case *ast.FunctionExpr:
			n.within(e.Stmts, slices.Clone(e.ParList.Names)...)
		}
	}
}
