package lua

import (
	"github.com/yuin/gopher-lua/ast"
)

// Types of Lua, as its type function calls them.
const (
	typeNil      = "nil"
	typeBoolean  = "boolean"
	typeNumber   = "number"
	typeString   = "string"
	typeTable    = "table"
	typeFunction = "function"
	typeUnknown  = "" // only running would tell
)

// returned is the type of the first value that a chunk returns: typeFunction
// also where only running it would tell, or where it depends on the way that
// the chunk takes.
func returned(chunk []ast.Stmt) string {
	last := typeNil // without a return at its end, a chunk returns nothing
	if n := len(chunk); n > 0 {
		if r, ok := chunk[n-1].(*ast.ReturnStmt); ok {
			last = firstType(r)
			chunk = chunk[:n-1]
		}
	}
	if last == typeUnknown || last == typeFunction || mayReturnFunction(chunk) {
		return typeFunction
	}
	return last
}

func firstType(r *ast.ReturnStmt) string {
	if len(r.Exprs) == 0 {
		return typeNil
	}
	return typeOf(r.Exprs[0])
}

// mayReturnFunction reports whether a return within the statements, but not
// within their functions, may give a function.
func mayReturnFunction(stmts []ast.Stmt) bool {
	for _, stmt := range stmts {
		var blocks [2][]ast.Stmt
		switch s := stmt.(type) {
		case *ast.ReturnStmt:
			if t := firstType(s); t == typeFunction || t == typeUnknown {
				return true
			}
		case *ast.DoBlockStmt:
			blocks[0] = s.Stmts
		case *ast.WhileStmt:
			blocks[0] = s.Stmts
		case *ast.RepeatStmt:
			blocks[0] = s.Stmts
		case *ast.IfStmt:
			blocks[0], blocks[1] = s.Then, s.Else
		case *ast.NumberForStmt:
			blocks[0] = s.Stmts
		case *ast.GenericForStmt:
			blocks[0] = s.Stmts
		}
		if mayReturnFunction(blocks[0]) || mayReturnFunction(blocks[1]) {
			return true
		}
	}
	return false
}

// typeOf is the type of an expression, as far as it is written there.
func typeOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.NilExpr:
		return typeNil
	case *ast.TrueExpr, *ast.FalseExpr, *ast.UnaryNotOpExpr, *ast.RelationalOpExpr:
		return typeBoolean
	case *ast.NumberExpr:
		return typeNumber
	case *ast.StringExpr:
		return typeString
	case *ast.TableExpr:
		return typeTable
	case *ast.FunctionExpr:
		return typeFunction
	case *ast.UnaryMinusOpExpr:
		return ofPlain(typeNumber, e.Expr)
	case *ast.UnaryLenOpExpr:
		if t := typeOf(e.Expr); t == typeString || t == typeTable {
			return typeNumber
		}
	case *ast.ArithmeticOpExpr:
		return ofPlain(typeNumber, e.Lhs, e.Rhs)
	case *ast.StringConcatOpExpr:
		return ofPlain(typeString, e.Lhs, e.Rhs)
	case *ast.LogicalOpExpr:
		return typeOfLogical(e)
	}
	return typeUnknown
}

// ofPlain is the type of an operation on strings and numbers. On anything else
// a metatable decides.
func ofPlain(result string, operands ...ast.Expr) string {
	for _, e := range operands {
		if t := typeOf(e); t != typeNumber && t != typeString {
			return typeUnknown
		}
	}
	return result
}

// typeOfLogical: `a or b` is a where that is true, `a and b` where it is not.
func typeOfLogical(e *ast.LogicalOpExpr) string {
	var truth bool
	switch e.Lhs.(type) {
	case *ast.NilExpr, *ast.FalseExpr:
	case *ast.TrueExpr, *ast.NumberExpr, *ast.StringExpr, *ast.TableExpr, *ast.FunctionExpr:
		truth = true
	default:
		return typeUnknown
	}
	if truth == (e.Operator == "or") {
		return typeOf(e.Lhs)
	}
	return typeOf(e.Rhs)
}
