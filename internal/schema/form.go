package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"eventhooks/internal/strictjson"
)

// maxFormDepth bounds how deep a name with dots goes.
const maxFormDepth = 16

// FormError: a form cannot be read as a document.
type FormError struct {
	Reason string // for a person
}

func (e *FormError) Error() string { return e.Reason }

// Form is what a form's names and values are read by: the document it stands
// for. The zero value knows no field, so every value is a string.
type Form struct{ fields []field }

// JSON returns the document that a body of application/x-www-form-urlencoded
// stands for, as Values does. The error is a *FormError.
func (f Form) JSON(body string) ([]byte, error) {
	if strings.HasPrefix(strings.TrimLeft(body, " \t\r\n"), "{") {
		return nil, &FormError{"the body looks like JSON: send it with Content-Type: application/json"}
	}
	values := url.Values{}
	for pair := range strings.SplitSeq(body, "&") {
		if name, value, _ := strings.Cut(pair, "="); pair != "" {
			name = unescape(name)
			values[name] = append(values[name], unescape(value))
		}
	}
	return f.Values(values)
}

// unescape reads a name or a value of a form as Kong's web server does: what is
// no escape stands for itself, so that `curl -d` of a text with a lone percent
// sign or a semicolon means what it says. url.ParseQuery refuses both.
func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] == '%' && i+2 < len(s):
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				b = append(b, '%')
				continue
			}
			b, i = append(b, byte(n)), i+2
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

// MaxFormValues bounds the values of a form.
const MaxFormValues = 1000

// Values returns the document that names and their values, decoded and in
// their order, stand for, as Kong reads it: a name with dots is nested
// (`config.url`); an array is one value, a name that repeats, `name[]` or
// `name[1]`, counted from 1, and the elements without a number come last;
// values become booleans and numbers where the field is one; an empty value is
// null.
//
// Beyond Kong, an element may be an object (`config.payload.blocks[1].type`),
// and what ends a name below `filter` is an array, as every pattern's end is:
// `filter.health=unhealthy` is {"health": ["unhealthy"]}. Values below payload
// and filter are texts: numbers and other alternatives take JSON.
//
// The error is a *FormError.
func (f Form) Values(values url.Values) ([]byte, error) {
	n := 0
	for _, list := range values {
		n += len(list)
	}
	if n > MaxFormValues {
		return nil, &FormError{fmt.Sprintf("a form has at most %d values", MaxFormValues)}
	}
	root, top := newNode(), field{kind: record, fields: f.fields}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) == 0 {
			continue
		}
		if !utf8.ValidString(name) || slices.ContainsFunc(values[name], func(s string) bool { return !utf8.ValidString(s) }) {
			return nil, &FormError{"the form is not UTF-8"}
		}
		path := strings.Split(name, ".")
		if len(path) > maxFormDepth {
			return nil, &FormError{fmt.Sprintf("a name is more than %d deep", maxFormDepth)}
		}
		if !root.put(top, path, values[name]) {
			return nil, &FormError{clip(name, maxClipped) + ": an element with names below it needs its number, like [1]"}
		}
	}
	doc, err := root.object(top, "")
	if err != nil {
		return nil, err
	}
	return strictjson.Encode(doc)
}

// node is a name of a form, or a part of one between dots: what it was given,
// and the names below it.
type node struct {
	values []at             // name=, name[]=, name[1]=
	listed bool             // at least one of them with brackets
	below  map[string]*node // name.x=
	items  map[int]*node    // name[1].x=
}

// at is a value and its place in an array; unplaced is after all others.
type at struct {
	index int
	value string
}

const unplaced = math.MaxInt

func newNode() *node { return &node{below: map[string]*node{}, items: map[int]*node{}} }

func child[K comparable](nodes map[K]*node, key K) *node {
	if nodes[key] == nil {
		nodes[key] = newNode()
	}
	return nodes[key]
}

// put lays the values of one name, or what is left of it, below n, which is of
// the field; false when an element with names below it has no number.
func (n *node) put(f field, path, values []string) bool {
	name, index, brackets := cutIndex(path[0])
	if f.kind == mapping { // what follows is one name, dots and all
		name, index, brackets = cutIndex(strings.Join(path, "."))
		path = path[:1]
	}
	f = f.child(name)
	if len(path) > 1 && !f.nests() { // below a field that has nothing below: an unknown field
		name, index, brackets, path = strings.Join(path, "."), unplaced, false, path[:1]
	}
	switch n = child(n.below, name); {
	case len(path) == 1:
		n.listed = n.listed || brackets
		for _, v := range values {
			n.values = append(n.values, at{index, v})
		}
		return true
	case !brackets:
		return n.put(f, path[1:], values)
	case index == unplaced:
		return false
	}
	return child(n.items, index).put(f, path[1:], values)
}

// cutIndex takes [] or [1] from the end of a name.
func cutIndex(name string) (base string, index int, brackets bool) {
	base, rest, ok := strings.Cut(name, "[")
	if !ok || base == "" || !strings.HasSuffix(rest, "]") {
		return name, unplaced, false
	}
	if rest == "]" {
		return base, unplaced, true
	}
	n, err := strconv.Atoi(rest[:len(rest)-1])
	if err != nil {
		return name, unplaced, false
	}
	return base, n, true
}

// value returns what the node is as JSON, read as the field. path is its name,
// for a person.
func (n *node) value(f field, path string) (any, error) {
	if len(n.below) > 0 && len(n.values)+len(n.items) > 0 {
		// A value instead of a record is at fault, and its reader will say so.
		// Elsewhere one of the two would be lost unheard.
		if (f.kind == record || f.kind == mapping || f.kind == fixed) && len(n.values) == 1 && n.values[0].value != "" {
			return n.values[0].value, nil
		}
		return nil, &FormError{clip(path, maxClipped) + ": it has a value, and names below it too"}
	}
	if len(n.below) > 0 {
		return n.object(f, path+".")
	}
	element, isList := f, len(n.values) > 1 || len(n.items) > 0
	switch {
	case f.kind == array || f.kind == set:
		element = *f.elements
		isList = isList || n.listed || n.values[0].value != "" // that alone is null
	case f.kind == free && f.lists && f.name == "": // within such a field, not itself
		isList = true
	case f.kind == free || f.kind == undescribed || f.kind == fixed:
		isList = isList || n.listed
	}
	if isList {
		return n.list(element, path)
	}
	return f.infer(n.values[0].value), nil
}

func (n *node) object(f field, prefix string) (any, error) {
	o := make(map[string]any, len(n.below))
	for _, name := range slices.Sorted(maps.Keys(n.below)) {
		v, err := n.below[name].value(f.child(name), prefix+name)
		if err != nil {
			return nil, err
		}
		o[name] = v
	}
	return o, nil
}

func (n *node) list(element field, path string) (any, error) {
	indexes, values := make([]int, 0, len(n.values)), make(map[int][]any)
	for _, v := range n.values {
		indexes = append(indexes, v.index)
		values[v.index] = append(values[v.index], element.infer(v.value))
	}
	for index, item := range n.items {
		where := fmt.Sprintf("%s[%d]", path, index)
		if values[index] != nil {
			return nil, &FormError{clip(where, maxClipped) + ": it has a value, and names below it too"}
		}
		v, err := item.value(element, where)
		if err != nil {
			return nil, err
		}
		indexes, values[index] = append(indexes, index), []any{v}
	}
	slices.Sort(indexes)
	list := make([]any, 0, len(indexes))
	for _, index := range slices.Compact(indexes) {
		list = append(list, values[index]...)
	}
	return list, nil
}

// child is the field of a name below f.
func (f field) child(name string) field {
	switch f.kind {
	case mapping:
		return *f.elements
	case free, fixed:
		return field{kind: f.kind, lists: f.lists}
	case record:
		if i := slices.IndexFunc(f.fields, func(f field) bool { return f.name == name }); i >= 0 {
			return f.fields[i]
		}
	}
	return field{kind: undescribed}
}

// nests reports whether there may be names below the field.
func (f field) nests() bool {
	switch f.kind {
	case record, mapping, free, fixed, undescribed:
		return true
	}
	return false
}

// infer makes a form's value what the field wants, if it can be that; what it
// cannot be is for the reading to refuse.
func (f field) infer(s string) any {
	switch {
	case s == "":
		return nil
	case f.kind == boolean && s == "true":
		return true
	case f.kind == boolean && s == "false":
		return false
	case (f.kind == integer || f.kind == number || f.kind == fixed) && strictjson.Kind([]byte(s)) == '0' && json.Valid([]byte(s)):
		return json.Number(s)
	case f.kind == fixed && (s == "true" || s == "false"):
		return s == "true"
	}
	return s
}

// maxClipped is how much of a name a form's fault tells, in bytes.
const maxClipped = 100

// clip keeps a name to a length that fits a message.
func clip(name string, most int) string {
	if len(name) <= most {
		return name
	}
	n := most
	for n > 0 && !utf8.RuneStart(name[n]) {
		n--
	}
	return name[:n] + "…"
}
