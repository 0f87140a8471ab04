package render

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// ScriptPut is what a Script calls, and no tag may. Its arguments are
//
//	(n)                          text n is written
//	(n, value)                   the value of tag n is written
//	(n, name, value, key ...)    so is what the keys lead to from value, which
//	                             the variable name has; a number is an index
//	                             from 0, or a name
//	(name)                       returns the event's value of that name
//
// where n counts from 1.
const ScriptPut = "__put"

// Script is the Lua of a template that has expressions or statements: a chunk
// that calls ScriptPut for each piece of text and each value, in the order in
// which they are written. It holds the code of the tags, and none of the text
// between them.
type Script struct {
	// Source is the chunk. Its names are the event's values, and what whoever
	// runs it adds.
	Source string
	// Field is the place inside a payload, as in Error.
	Field string

	src   string
	codes []code // of each node
}

// code is the place of a node in its template, and in the script.
type code struct {
	open, end int // of the tag in the template; 0, 0 for text
	text      string
	line      int // of the script, where it begins
	expr      bool
}

// newScript writes the chunk. Each piece begins on a line of its own, and so
// does what follows it: a remark at the end of a tag ends with the tag.
func newScript(src string, nodes []node, codes []code) *Script {
	var b strings.Builder
	line := 1
	for i, n := range nodes {
		c := &codes[i]
		c.line = line
		// A carriage return is a line's end for Lua, and would be counted.
		c.text = strings.ReplaceAll(strings.ReplaceAll(c.text, "\r\n", "\n"), "\r", "\n")
		// The semicolon ends what the tag before has left open: else this would
		// be a part of it.
		put := ";" + ScriptPut + "(" + strconv.Itoa(i+1)
		from := b.Len()
		switch n.kind {
		case nodeStatement:
			b.WriteString(";" + c.text + "\n")
		case nodeExpr:
			c.expr = true
			b.WriteString(put + ",(" + c.text + "\n));\n")
		case nodeName:
			b.WriteString(put + "," + luaString(n.path[0].name) + ",")
			if name := n.path[0].name; keyword(name) {
				b.WriteString(ScriptPut + "(" + luaString(name) + ")")
			} else {
				b.WriteString(name)
			}
			for _, s := range n.path[1:] {
				if s.index >= 0 {
					b.WriteString("," + strconv.Itoa(s.index))
				} else {
					b.WriteString("," + luaString(s.name))
				}
			}
			b.WriteString(");\n")
		default:
			b.WriteString(put + ");\n")
		}
		if n.kind == nodeName {
			c.text = ""
		}
		line += strings.Count(b.String()[from:], "\n")
	}
	return &Script{Source: b.String(), src: src, codes: codes}
}

// luaString is s as Lua reads it; s has no line ends and no backslashes.
func luaString(s string) string {
	if strings.Contains(s, `"`) {
		return "'" + s + "'"
	}
	return `"` + s + `"`
}

// keyword reports whether a name cannot be one of Lua's variables.
func keyword(name string) bool {
	switch name {
	case "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil", "not",
		"or", "repeat", "return", "then", "true", "until", "while":
		return true
	}
	return false
}

// Code is the Lua of one tag.
type Code struct {
	Text string
	Expr bool // an expression, not a statement
	Line int  // of the script, where it begins
}

// Codes returns the Lua of the tags that hold some, in their order.
func (s *Script) Codes() []Code {
	var out []Code
	for _, c := range s.codes {
		if c.text != "" {
			out = append(out, Code{Text: c.text, Expr: c.expr, Line: c.line})
		}
	}
	return out
}

// Line is the line of the template that a line of the script comes from.
func (s *Script) Line(line int) int {
	f, c := s.fault(line, "")
	if c == nil {
		return 1
	}
	return f.Line + max(0, min(line-c.line, strings.Count(c.text, "\n")))
}

// Fault is what is wrong at a line of the script, as a fault of the tag that the
// line comes from; line 0 for what is wrong with the script as a whole.
func (s *Script) Fault(line int, reason string) *Error {
	e, c := s.fault(line, reason)
	if c != nil && line > c.line && c.text != "" && line-c.line <= strings.Count(c.text, "\n") {
		e.Reason = "line " + strconv.Itoa(line-c.line+1) + " of the tag: " + reason
	}
	return e
}

// Begin returns the line where the tag or text begins that a line of the script
// is of.
func (s *Script) Begin(line int) int {
	begin := 1
	for _, c := range s.codes {
		if c.line <= line {
			begin = c.line
		}
	}
	return begin
}

// Before is a fault of the last tag before a line of the script.
func (s *Script) Before(line int, reason string) *Error {
	e, _ := s.fault(line-1, reason)
	return e
}

func (s *Script) fault(line int, reason string) (*Error, *code) {
	var at *code
	for i := range s.codes {
		c := &s.codes[i]
		if c.end > 0 && (c.line <= line || at == nil) {
			at = c
		}
	}
	if line <= 0 || at == nil {
		return &Error{Field: s.Field, Reason: reason}, nil
	}
	e := faultAt(s.src, at.open, at.end, reason)
	e.Field = s.Field
	return e, at
}

// Script returns what a template compiles to that look-ups cannot render; nil
// for one that they can.
func (t *Template) Script() *Script { return t.script }

// Scripts returns the scripts of the payload's templates.
func (p *Payload) Scripts() []*Script {
	out := make([]*Script, len(p.scripts))
	for i, t := range p.scripts {
		out[i] = t.script
	}
	return out
}

// PieceKind is what a Piece is.
type PieceKind byte

// The kinds of pieces.
const (
	PieceLiteral PieceKind = 't' // the text with the number Node
	PieceNil     PieceKind = 'z' // the others are values of the tag Node
	PieceBool    PieceKind = 'b' // "true" or "false"
	PieceNumber  PieceKind = 'n'
	PieceString  PieceKind = 's'
	PieceJSON    PieceKind = 'j' // an object or array
)

// Piece is something that a script wrote.
type Piece struct {
	Node int // of ScriptPut; 0 for a value that is no tag's and is not escaped
	Kind PieceKind
	Text string // of a value
}

// AppendPiece appends a piece in the form that Bind reads.
func AppendPiece(b []byte, p Piece) []byte {
	b = append(b, byte(p.Kind))
	b = binary.AppendUvarint(b, uint64(p.Node))
	if p.Kind == PieceLiteral || p.Kind == PieceNil {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(p.Text)))
	return append(b, p.Text...)
}

var errPieces = errors.New("what the script wrote cannot be read")

// readPiece reads one piece off the beginning of b.
func readPiece(b []byte) (p Piece, rest []byte, err error) {
	n, size := binary.Uvarint(b[1:])
	if size <= 0 || n > MaxSource {
		return p, nil, errPieces
	}
	p = Piece{Kind: PieceKind(b[0]), Node: int(n)}
	b = b[1+size:]
	switch p.Kind {
	case PieceLiteral, PieceNil:
		return p, b, nil
	case PieceBool, PieceNumber, PieceString, PieceJSON:
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return p, nil, errPieces
		}
		p.Text = string(b[size : size+int(n)])
		return p, b[size+int(n):], nil
	}
	return p, nil, errPieces
}

// Bind returns the template as its script has written it, each piece as
// AppendPiece does: a template like any other. Where the result is JSON, the
// text that was written until then decides whether a value stands inside a
// string literal; values do not count, so nothing that comes with an event can
// tell. An error is ErrTooLarge, or pieces that are none of this template's.
func (t *Template) Bind(pieces []byte) (*Template, error) {
	if t.script == nil {
		return t, nil
	}
	b := &Template{json: t.json, raw: t.raw, size: t.size}
	var q quotes
	literal := 0 // bytes of literal text: its pieces cost the child nothing, and are read here
	for len(pieces) > 0 {
		p, rest, err := readPiece(pieces)
		if err != nil {
			return nil, err
		}
		pieces = rest
		out := node{kind: nodeValue}
		switch {
		case p.Node == 0 && p.Kind != PieceLiteral:
		case p.Node < 1 || p.Node > len(t.nodes):
			return nil, errPieces
		default:
			n := &t.nodes[p.Node-1]
			isTag := n.kind == nodeName || n.kind == nodeExpr
			switch {
			case p.Kind == PieceLiteral && n.kind == nodeText:
				if literal += len(n.text); literal > MaxOutput {
					return nil, ErrTooLarge
				}
				if t.json {
					q.read(n.text)
				}
				b.nodes = append(b.nodes, *n)
				continue
			case p.Kind == PieceLiteral || !isTag:
				return nil, errPieces
			case !t.json || n.raw:
			case q.inside:
				out.form = inString
			default:
				out.form = asValue
			}
		}
		out.value = p.value()
		b.nodes = append(b.nodes, out)
	}
	return b, nil
}

func (p Piece) value() any {
	switch p.Kind {
	case PieceBool:
		return p.Text == "true"
	case PieceNumber:
		return json.Number(p.Text)
	case PieceString:
		return strings.ToValidUTF8(p.Text, "\ufffd")
	case PieceJSON:
		return rawJSON(p.Text)
	}
	return nil
}

// Bind returns the payload with its scripts' templates bound: pieces are those
// of each, in the order of Scripts.
func (p *Payload) Bind(pieces [][]byte) (*Payload, error) {
	if len(pieces) != len(p.scripts) {
		return nil, errPieces
	}
	if len(pieces) == 0 {
		return p, nil
	}
	bound := make(map[*Template]*Template, len(pieces))
	for i, t := range p.scripts {
		b, err := t.Bind(pieces[i])
		if err != nil {
			return nil, err
		}
		bound[t] = b
	}
	out := *p
	out.scripts, out.members = nil, slices.Clone(p.members)
	for i := range out.members {
		m := &out.members[i]
		if b := bound[m.text]; b != nil {
			m.text = b
		}
		if slices.ContainsFunc(m.json, func(n node) bool { return bound[n.whole] != nil }) {
			m.json = slices.Clone(m.json)
			for j := range m.json {
				if b := bound[m.json[j].whole]; b != nil {
					m.json[j].whole = b
				}
			}
		}
	}
	return &out, nil
}
