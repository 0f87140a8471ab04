package render

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// What a tag holds, for error messages.
const plainNames = "a tag holds a name such as upstream_id, entity.email or items.0, or an expression of Lua"

type parser struct {
	src   string
	json  bool
	quote quotes // json only: where in the JSON the text read so far ends
	lit   []byte // literal text not yet a node
	t     *Template
	lua   bool // look-ups are not enough
	// codes are those of each node; kept only for a template that is known to
	// need Lua.
	codes []code
	keep  bool
}

// parse reads a template. It goes from brace to brace: what begins no tag is
// text. As in lua-resty-template a backslash before a tag makes it text.
func parse(src string, json bool) (*Template, *Error) {
	if len(src) > MaxSource {
		return nil, &Error{Reason: "longer than " + strconv.Itoa(MaxSource) + " bytes"}
	}
	if !utf8.ValidString(src) {
		return nil, &Error{Reason: "not UTF-8"}
	}
	p := &parser{src: src, json: json, t: &Template{json: json}}
	if err := p.read(); err != nil {
		return nil, err
	}
	if !p.lua {
		p.t.names = usedNames(p.t.nodes)
		return p.t, nil
	}
	p = &parser{src: src, json: json, t: &Template{json: json}, keep: true}
	_ = p.read() // as the first time
	p.t.script = newScript(src, p.t.nodes, p.codes)
	return p.t, nil
}

// read reads the whole template into nodes.
func (p *parser) read() *Error {
	src, at := p.src, 0
	for {
		n := strings.IndexByte(src[at:], '{')
		if n < 0 {
			p.text(src[at:])
			break
		}
		open := at + n
		tag := p.tagAt(open)
		if tag.end == 0 {
			p.text(src[at : open+1])
			at = open + 1
			continue
		}
		p.text(src[at:open])
		if p.escaped(at, open) {
			p.text(src[open : open+2])
			at = open + 2
			continue
		}
		if tag.fault != "" {
			return p.fault(open, tag.end, tag.fault)
		}
		if err := p.add(open, tag); err != nil {
			return err
		}
		at = tag.end
	}
	p.flush()
	return nil
}

// found is what begins at a brace: a tag from there to end, of which body is
// the inside, or nothing when end is 0. A tag with a fault is one that may only
// stand escaped.
type found struct {
	kind  byte // the character after the brace
	body  string
	end   int
	fault string
}

// tagAt looks at what begins with the brace at src[open].
func (p *parser) tagAt(open int) found {
	rest := p.src[open:]
	if len(rest) < 2 {
		return found{}
	}
	kind := rest[1]
	var closing string
	switch kind {
	case '{':
		closing = "}}"
		if strings.HasPrefix(rest, "{{{") {
			return found{kind: kind, end: open + 3, fault: "three braces; put a space after the first one if it is text, use {* name *} for a value that is not escaped"}
		}
	case '*':
		closing = "*}"
	case '#':
		closing = "#}"
	case '%':
		closing = "%}"
	case '(':
		closing = ")}"
	case '[':
		closing = "]}"
	case '-':
		return p.blockAt(open)
	default:
		return found{}
	}
	n := strings.Index(rest[2:], closing)
	if n < 0 {
		if kind == '(' || kind == '[' {
			return found{} // never a tag of ours: text, as for lua-resty-template
		}
		return found{kind: kind, end: open + 2, fault: "this tag is not closed, " + closing + " is missing; write \\" + rest[:2] + " if it is text"}
	}
	f := found{kind: kind, body: rest[2 : 2+n], end: open + 2 + n + 2}
	switch kind {
	case '(', '[':
		f.fault = "includes are not supported; write \\" + rest[:2] + " if it is text"
	case '#', '%':
		f.end += newline(p.src[f.end:])
	}
	return f
}

// blockAt looks at {-name-}, which lasts to the next {-name-} of the same
// spelling.
func (p *parser) blockAt(open int) found {
	rest := p.src[open:]
	n := strings.Index(rest, "-}")
	if n < 2 {
		return found{}
	}
	tag := rest[:n+2]
	name := strings.TrimSpace(tag[2:n])
	verbatim := name == "raw" || name == "verbatim"
	m := strings.Index(rest[n+2:], tag)
	switch {
	case m < 0 && !verbatim:
		return found{}
	case m < 0:
		return found{kind: '-', end: open + len(tag), fault: "this tag is not closed, a second " + tag + " is missing"}
	}
	f := found{kind: '-', body: rest[n+2 : n+2+m], end: open + n + 2 + m + len(tag)}
	if !verbatim {
		f.fault = "blocks are not supported, except {-raw-} and {-verbatim-}"
		return f
	}
	f.body = f.body[newline(f.body):]
	f.end += newline(p.src[f.end:])
	return f
}

// newline returns the length of the line's end that s begins with, which goes
// with the tag before it.
func newline(s string) int {
	if strings.HasPrefix(s, "\n") {
		return 1
	}
	return 0
}

// escaped tells whether the tag at src[open] is text, because of the backslash
// before it, which it takes away. from is where the text before the tag
// begins.
//
// In JSON a backslash escapes what follows it, so the backslash of "\\{{x}}" is
// spoken for, and both stay. In other text, as in lua-resty-template, two
// backslashes become one, and the tag is a tag.
func (p *parser) escaped(from, open int) bool {
	if open == from || p.src[open-1] != '\\' {
		return false
	}
	if p.json {
		if !p.quote.backslash {
			return false
		}
		p.quote.backslash = false
		p.lit = p.lit[:len(p.lit)-1]
		return true
	}
	double := open-1 > from && p.src[open-2] == '\\'
	p.lit = p.lit[:len(p.lit)-1]
	return !double
}

// text adds literal text.
func (p *parser) text(s string) {
	p.lit = append(p.lit, s...)
	if p.json {
		p.quote.read(s)
	}
}

// flush ends the literal text before a tag.
func (p *parser) flush() {
	if len(p.lit) > 0 {
		p.t.nodes = append(p.t.nodes, node{kind: nodeText, text: string(p.lit)})
		p.note(code{})
		p.t.size += len(p.lit)
		p.lit = p.lit[:0]
	}
}

func (p *parser) add(open int, tag found) *Error {
	switch tag.kind {
	case '#':
		return nil
	case '-':
		p.text(tag.body)
		return nil
	}
	body := strings.TrimSpace(tag.body)
	n := node{kind: nodeStatement}
	if tag.kind != '%' {
		path, plain, fault := parsePath(body)
		if fault != "" {
			return p.fault(open, tag.end, fault)
		}
		n = node{kind: nodeName, path: path, form: asText, inside: p.quote.inside, raw: tag.kind == '*'}
		if !plain {
			n.kind, n.path = nodeExpr, nil
		}
	}
	if p.t.tags++; p.t.tags > MaxTags {
		return p.fault(open, tag.end, "more than "+strconv.Itoa(MaxTags)+" tags")
	}
	if p.quote.backslash {
		return p.fault(open, tag.end, "a backslash of the JSON around it escapes this tag")
	}
	switch {
	case n.raw:
		p.t.raw = true
	case p.json && p.quote.inside:
		n.form = inString
	case p.json:
		n.form = asValue
	}
	p.lua = p.lua || n.kind != nodeName
	p.flush()
	p.t.nodes = append(p.t.nodes, n)
	p.note(code{open: open, end: tag.end, text: tag.body})
	return nil
}

func (p *parser) note(c code) {
	if p.keep {
		p.codes = append(p.codes, c)
	}
}

func (p *parser) fault(open, end int, reason string) *Error {
	return faultAt(p.src, open, end, reason)
}

// faultAt is a fault of the tag from open to end of a template.
func faultAt(src string, open, end int, reason string) *Error {
	before := src[:open]
	line := strings.Count(before, "\n")
	column := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
	return &Error{Line: line + 1, Column: column + 1, Tag: shorten(strings.TrimSuffix(src[open:end], "\n")), Reason: reason}
}

// quotes follows JSON text just far enough to know whether a place is inside a
// string literal.
type quotes struct {
	inside    bool
	backslash bool // the next character is escaped
}

func (q *quotes) read(s string) {
	for i := range len(s) {
		switch c := s[i]; {
		case q.backslash:
			q.backslash = false
		case c == '\\':
			q.backslash = true
		case c == '"':
			q.inside = !q.inside
		}
	}
}

// segment is one step of a dotted name.
type segment struct {
	name  string
	index int // name as an array index; -1 when it is none
}

// parsePath reads what a tag holds: a name, then more names or array indexes
// after dots, or quoted names in brackets; plain is false for anything else.
// fault says what is wrong in either case, "" when nothing is.
func parsePath(s string) (path []segment, plain bool, fault string) {
	if s == "" {
		return nil, false, "the tag is empty; " + plainNames
	}
	for at := 0; at < len(s); {
		if s[at] == '[' && len(path) > 0 {
			name, n := quoted(s[at:])
			if n == 0 {
				return nil, false, ""
			}
			path = append(path, segment{name, -1})
			at += n
			continue
		}
		if len(path) > 0 {
			if s[at] != '.' {
				return nil, false, ""
			}
			at++
		}
		n := at
		for n < len(s) && isNameByte(s[n]) {
			n++
		}
		name := s[at:n]
		if name == "" || (len(path) == 0 && isDigit(name[0])) {
			return nil, false, ""
		}
		index := arrayIndex(name)
		if isDigit(name[0]) && index < 0 {
			return nil, false, ""
		}
		path = append(path, segment{name, index})
		at = n
	}
	if len(path) > MaxDepth {
		return nil, true, "more than " + strconv.Itoa(MaxDepth) + " names in a path"
	}
	return path, true, ""
}

// quoted reads ["name"] or ['name'] at the beginning of s and returns its
// length, 0 when there is none.
func quoted(s string) (name string, n int) {
	if len(s) < 4 || (s[1] != '"' && s[1] != '\'') {
		return "", 0
	}
	end := strings.IndexByte(s[2:], s[1])
	if end < 0 || !strings.HasPrefix(s[2+end+1:], "]") {
		return "", 0
	}
	name = s[2 : 2+end]
	if strings.ContainsAny(name, "\\\r\n") {
		return "", 0 // escapes are for whoever reads Lua
	}
	return name, 2 + end + 2
}

// arrayIndex reads a number without a sign or leading zeros; -1 when s is
// something else.
func arrayIndex(s string) int {
	if len(s) == 0 || len(s) > 9 || (len(s) > 1 && s[0] == '0') {
		return -1
	}
	n := 0
	for i := range len(s) {
		if !isDigit(s[i]) {
			return -1
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNameByte(c byte) bool {
	return isDigit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
}
