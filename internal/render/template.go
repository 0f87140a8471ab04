// Package render fills an event's values into the texts of a hook: header
// values, a body, a payload. The tags are those of lua-resty-template;
// docs/templates.md describes them for users.
//
// Tags with plain dotted names are looked up here. A template with expressions
// or statements compiles to a Script, Lua that somebody else runs; what it
// writes comes back in pieces, and Bind makes a template of them that is
// rendered like any other. So there is one place that escapes.
//
// A template is parsed once, when the hook is saved or first used, and rendered
// many times. A rendered value is never parsed again, so nothing that comes
// with an event can become a tag. It escapes for JSON where the result is to be
// JSON, and never for HTML: who reads the result is a chat service or a queue,
// not a browser.
package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// Limits of templates and of what they make.
const (
	MaxSource = 64 << 10 // bytes of one template's or payload's text: as much as a whole hook may have
	MaxTags   = 256      // of one template or payload
	MaxDepth  = 32       // names in a dotted path; objects and arrays inside each other in a payload
	// MaxOutput bounds a rendered text in bytes. It is the size of the largest
	// event, so a template may carry any event whole, and 64 attempts at a time
	// together hold no more than 16 MB.
	MaxOutput = hook.MaxEventBytes
)

// Values are the names that a template may use: the fields of an event's data,
// and its source and event. What is nested is as strictjson.Decode returns it.
type Values map[string]any

// ValuesOf returns the values of an event. Its source and event win over data
// fields of those names, as they do in the body of a webhook.
func ValuesOf(ev hook.Event) (Values, error) {
	v, err := strictjson.Decode(ev.Data, strictjson.Limits{})
	if err != nil {
		return nil, fmt.Errorf("read event data: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("read event data: it is not an object")
	}
	m["source"], m["event"] = ev.Source, ev.Event
	return m, nil
}

// Error says what is wrong with a template, and where.
type Error struct {
	// Field is the place inside a payload, its names and indexes joined with
	// dots ("blocks.0.text"); "" for a single template and for the payload as
	// a whole.
	Field string
	// Line and Column count from 1, columns in characters; 0 when the fault is
	// in the template as a whole.
	Line, Column int
	// Tag is the tag at fault, shortened; "" when it is no tag's fault.
	Tag    string
	Reason string // for a person
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Fault())
	return b.String()
}

// Fault is the error's text without its field.
func (e *Error) Fault() string {
	if e.Line == 0 {
		return e.Reason
	}
	where := fmt.Sprintf("line %d, column %d: ", e.Line, e.Column)
	if e.Tag == "" {
		return where + e.Reason
	}
	return where + e.Tag + ": " + e.Reason
}

// Template is a parsed text. It may be used by many goroutines at a time.
type Template struct {
	nodes  []node
	names  []string // sorted, each once
	tags   int
	raw    bool    // it has a tag whose value is not escaped
	json   bool    // the result must be JSON
	size   int     // bytes of literal text, a hint
	script *Script // nil when look-ups are enough
}

// node is a piece of literal text, or a tag.
type node struct {
	kind nodeKind
	form form
	// inside tells that the tag stands inside a string literal; JSON only.
	inside bool
	raw    bool // the value is not escaped
	text   string
	path   []segment
	// whole is a template of its own whose result becomes the text of a JSON
	// string.
	whole *Template
	value any
}

type nodeKind uint8

const (
	nodeText      nodeKind = iota // text
	nodeName                      // the value at path
	nodeWhole                     // the result of whole
	nodeValue                     // value
	nodeExpr                      // Lua, whose value a Script writes
	nodeStatement                 // Lua that a Script runs
)

// form is how a tag's value is written.
type form uint8

const (
	asText   form = iota // its text, as it is
	inString             // its text, inside a JSON string literal
	asValue              // a JSON value
)

// ParseText parses a template whose result is text: values are written as they
// are. The error is an *Error.
func ParseText(src string) (*Template, error) {
	t, err := parse(src, false)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// ParseJSON parses a template whose result is JSON. The text around the tags
// is read once, here: a tag inside a string literal is written as part of that
// string, escaped; elsewhere as a JSON value of its own, where null and an
// unknown name are null. With statements the text is read as it is written,
// branch by branch. {* *} is written as it is in either place. A text that
// cannot become JSON whatever the values is an error; with {* *} or statements
// in it, only Append can tell. The error is an *Error.
func ParseJSON(src string) (*Template, error) {
	t, err := parse(src, true)
	if err != nil {
		return nil, err
	}
	// 1 and not 0: it may be part of a longer number.
	if !t.raw && !t.branches() && strictjson.Check(t.skeleton("1"), strictjson.Limits{}) != nil {
		return nil, &Error{Reason: "this is not JSON, whatever the values of its tags: a tag within quotes becomes part of the string, elsewhere it becomes a whole JSON value"}
	}
	return t, nil
}

// Names returns the top-level names that the template's plain tags use, sorted;
// none for one that needs Lua, whose names may be variables of its own.
func (t *Template) Names() []string { return slices.Clone(t.names) }

// Tags returns how many tags the template has that write or run something.
func (t *Template) Tags() int { return t.tags }

// Append appends the rendered text to dst. The errors are ErrTooLarge, and
// *JSONError when the result of a template from ParseJSON is not JSON; and
// ErrUnbound. dst is returned as it was then.
func (t *Template) Append(dst []byte, v Values) ([]byte, error) {
	w := newWriter(dst, t.size)
	w.template(t, v)
	return w.end()
}

// skeleton is the template's text with digit for each tag that stands for a
// JSON value. Tags inside strings get a text of their own each, for they may be
// parts of names, which must differ.
func (t *Template) skeleton(digit string) []byte {
	b := make([]byte, 0, t.size+8*t.tags)
	for i, n := range t.nodes {
		switch {
		case n.kind == nodeText:
			b = append(b, n.text...)
		case n.inside:
			b = fmt.Appendf(b, "tag#%d", i)
		default:
			b = append(b, digit...)
		}
	}
	return b
}

// branches reports whether the template has statements, so that its text is not
// written from its beginning to its end.
func (t *Template) branches() bool {
	return slices.ContainsFunc(t.nodes, func(n node) bool { return n.kind == nodeStatement })
}

// usedNames returns the top-level names of the nodes, sorted, each once. What is
// asked of all values together has none.
func usedNames(lists ...[]node) []string {
	seen := map[string]bool{}
	for _, nodes := range lists {
		for _, n := range nodes {
			if n.path != nil && n.path[0].name != allValues {
				seen[n.path[0].name] = true
			}
			if n.whole != nil {
				for _, name := range n.whole.names {
					seen[name] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// shorten keeps a tag to a length that fits an error message.
func shorten(tag string) string {
	const most = 60
	if len(tag) <= most {
		return tag
	}
	n := most
	for n > 0 && !utf8.RuneStart(tag[n]) {
		n--
	}
	return tag[:n] + "…"
}
