package render

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// Payload is the parsed `payload` of a webhook-custom hook: an object whose
// strings, at any depth, are templates. Names of members are not. It may be
// used by many goroutines at a time.
type Payload struct {
	members []member // in the order given
	form    []int    // indexes of members, in the order of their names
	names   []string // names used by templates
	tags    int
	size    int
	scripts []*Template // those that need Lua
}

type member struct {
	key   string // for JSON: the quoted name and a colon
	field string // for a form: the escaped name and an equals sign
	json  []node // the value as JSON
	// text is a string's own text, for a form; nil for what is no string: a
	// form holds its JSON.
	text *Template
}

// Errors are all faults of a payload.
type Errors []*Error

func (e Errors) Error() string {
	parts := make([]string, len(e))
	for i, one := range e {
		parts[i] = one.Error()
	}
	return strings.Join(parts, "; ")
}

// ParsePayload parses a payload, a JSON object. With format its strings are
// templates, each of which becomes one string whatever the values are. Where a
// string's own text begins with [ or { and is JSON once each tag is a 0 (JSON
// in a string, as Slack's `blocks` needs it), values are written into it as
// ParseJSON does, and the result must be JSON. The error is of type Errors.
func ParsePayload(object []byte, format bool) (*Payload, error) {
	if len(object) > MaxSource {
		return nil, Errors{{Reason: "longer than " + strconv.Itoa(MaxSource) + " bytes"}}
	}
	members, err := strictjson.Object(object, strictjson.Limits{Depth: MaxDepth})
	if err != nil {
		return nil, Errors{{Reason: err.Error()}}
	}
	b := &payloadParser{format: format, p: &Payload{}}
	for _, m := range members {
		b.member(m)
	}
	if b.p.tags > MaxTags {
		b.faults = append(b.faults, &Error{Reason: "more than " + strconv.Itoa(MaxTags) + " tags"})
	}
	if len(b.faults) > 0 {
		return nil, b.faults
	}
	return b.p.finish(), nil
}

// Names returns the top-level names that the payload's templates use, sorted,
// as Template.Names has them.
func (p *Payload) Names() []string { return slices.Clone(p.names) }

// Tags returns how many tags the payload's templates have.
func (p *Payload) Tags() int { return p.tags }

// AppendJSON appends the payload as a JSON object, its members in the order
// given. The errors are those of Template.Append.
func (p *Payload) AppendJSON(dst []byte, v Values) ([]byte, error) {
	w := newWriter(dst, p.size)
	w.byte('{')
	for i := range p.members {
		if i > 0 {
			w.byte(',')
		}
		w.string(p.members[i].key)
		if w.nodes(p.members[i].json, v); w.err != nil {
			break
		}
	}
	w.byte('}')
	return w.end()
}

// AppendForm appends the payload as application/x-www-form-urlencoded, names
// sorted. Strings are their text, null is an empty field, objects and arrays
// are JSON text. The errors are those of Template.Append.
func (p *Payload) AppendForm(dst []byte, v Values) ([]byte, error) {
	w := newWriter(dst, p.size)
	for i, n := range p.form {
		if i > 0 {
			w.byte('&')
		}
		m := &p.members[n]
		w.string(m.field)
		value := newWriter(nil, 0)
		if m.text != nil {
			value.template(m.text, v)
		} else {
			value.nodes(m.json, v)
		}
		if value.err != nil {
			w.err = value.err
			break
		}
		w.string(url.QueryEscape(string(value.b)))
	}
	return w.end()
}

// payloadParser makes a payload's members. It goes on after a fault, so that
// all of them are told at once.
type payloadParser struct {
	format bool
	p      *Payload
	faults Errors   // at most hook.MaxFieldErrors
	path   []string // of the value at hand

	nodes []node // of the member at hand
	lit   []byte // JSON text that is not yet a node
}

func (b *payloadParser) member(m strictjson.Member) {
	out := member{key: quote(m.Name) + ":", field: url.QueryEscape(m.Name) + "="}
	b.nodes, b.path = nil, append(b.path[:0], m.Name)
	switch strictjson.Kind(m.Value) {
	case '"':
		out.text = b.leaf(m.Value)
	case 'n':
		out.text = &Template{}
		b.lit = append(b.lit, "null"...)
	default:
		b.value(m.Value)
	}
	b.flush()
	out.json = b.nodes
	b.p.members = append(b.p.members, out)
}

// value adds a JSON value.
func (b *payloadParser) value(raw []byte) {
	switch strictjson.Kind(raw) {
	case '"':
		b.leaf(raw)
	case '{':
		// The whole payload has been checked, so there is no error to come.
		members, _ := strictjson.Object(raw, strictjson.Limits{})
		b.lit = append(b.lit, '{')
		for i, m := range members {
			if i > 0 {
				b.lit = append(b.lit, ',')
			}
			b.lit = append(b.lit, quote(m.Name)+":"...)
			b.below(m.Name, m.Value)
		}
		b.lit = append(b.lit, '}')
	case '[':
		elements, _ := strictjson.Array(raw, strictjson.Limits{})
		b.lit = append(b.lit, '[')
		for i, e := range elements {
			if i > 0 {
				b.lit = append(b.lit, ',')
			}
			b.below(strconv.Itoa(i), e)
		}
		b.lit = append(b.lit, ']')
	default:
		b.lit = strictjson.Compact(b.lit, raw)
	}
}

// below adds a value that lies in the one at hand.
func (b *payloadParser) below(name string, raw []byte) {
	b.path = append(b.path, name)
	b.value(raw)
	b.path = b.path[:len(b.path)-1]
}

// leaf adds a string, and returns it as the template of its text.
func (b *payloadParser) leaf(raw []byte) *Template {
	s, _ := strictjson.String(raw)
	t := &Template{nodes: []node{{text: s}}, size: len(s)}
	if b.format {
		var err *Error
		if t, err = parseLeaf(s); err != nil {
			if len(b.faults) < hook.MaxFieldErrors {
				err.Field = strings.Join(b.path, ".")
				b.faults = append(b.faults, err)
			}
			return nil
		}
	}
	b.p.tags += t.tags
	b.lit = append(b.lit, '"')
	if t.script != nil {
		t.script.Field = strings.Join(b.path, ".")
		b.p.scripts = append(b.p.scripts, t)
	}
	if t.json || t.script != nil {
		b.flush()
		b.nodes = append(b.nodes, node{kind: nodeWhole, whole: t})
	} else {
		for _, n := range t.nodes {
			if n.kind == nodeText {
				b.lit = appendEscaped(b.lit, n.text)
				continue
			}
			b.flush()
			b.nodes = append(b.nodes, node{kind: nodeName, path: n.path, form: inString})
		}
	}
	b.lit = append(b.lit, '"')
	return t
}

func (b *payloadParser) flush() {
	if len(b.lit) > 0 {
		b.nodes = append(b.nodes, node{text: string(b.lit)})
		b.p.size += len(b.lit)
		b.lit = b.lit[:0]
	}
}

// parseLeaf parses a string of a payload: as JSON if it looks like JSON in a
// string, as text otherwise.
func parseLeaf(s string) (*Template, *Error) {
	if begin := strings.TrimLeft(s, " \t\r\n"); begin != "" && (begin[0] == '[' || begin[0] == '{') {
		t, err := parse(s, true)
		if err == nil && t.beginsJSON() && t.mayBeJSON() {
			t.json = t.tags > 0 // without a tag it has just been checked
			return t, nil
		}
	}
	return parse(s, false)
}

// mayBeJSON reports whether the template's text is JSON once its tags are
// zeros. With statements its parts may be left out or repeated; then its text
// has to be of JSON's words and symbols alone, in whichever order, and to end as
// an array or object does.
func (t *Template) mayBeJSON() bool {
	if !t.branches() {
		return strictjson.Check(t.skeleton("0"), strictjson.Limits{}) == nil
	}
	var q quotes
	for _, n := range t.nodes {
		if n.kind == nodeText && !q.readWords(n.text) {
			return false
		}
	}
	last := t.nodes[len(t.nodes)-1]
	end := strings.TrimRight(last.text, " \t\r\n")
	return !q.inside && last.kind == nodeText && (strings.HasSuffix(end, "]") || strings.HasSuffix(end, "}"))
}

// readWords reads on, and reports whether what is in no string literal may be
// JSON's.
func (q *quotes) readWords(s string) bool {
	for i := 0; i < len(s); {
		n := i
		for !q.inside && n < len(s) && (isNameByte(s[n]) || strings.IndexByte("+-.", s[n]) >= 0) {
			n++
		}
		if n > i {
			switch word := s[i:n]; {
			case word == "true", word == "false", word == "null":
			case strings.Trim(word, "0123456789+-.eE") == "" && (isDigit(word[0]) || word[0] == '-'):
			default:
				return false
			}
			i = n
			continue
		}
		if !q.inside && strings.IndexByte("{}[],:\" \t\r\n", s[i]) < 0 {
			return false
		}
		q.read(s[i : i+1])
		i++
	}
	return true
}

// beginsJSON reports whether the template's own text begins with a bracket or
// brace of JSON.
func (t *Template) beginsJSON() bool {
	if len(t.nodes) == 0 || t.nodes[0].kind != nodeText {
		return false
	}
	switch strictjson.Kind([]byte(t.nodes[0].text)) {
	case '{', '[':
		return true
	}
	return false
}

// finish fills in what follows from the members.
func (p *Payload) finish() *Payload {
	lists := make([][]node, len(p.members))
	p.form = make([]int, len(p.members))
	for i := range p.members {
		lists[i] = p.members[i].json
		p.size += len(p.members[i].key) + 1
		p.form[i] = i
	}
	slices.SortFunc(p.form, func(a, b int) int {
		return strings.Compare(p.members[a].field, p.members[b].field)
	})
	p.names = usedNames(lists...)
	return p
}

// quote returns s as a JSON string.
func quote(s string) string {
	return `"` + string(appendEscaped(nil, s)) + `"`
}

func appendEscaped(dst []byte, s string) []byte {
	w := writer{b: dst, start: len(dst)}
	w.escaped(s)
	return w.b
}
