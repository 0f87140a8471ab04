package schema

import (
	"cmp"
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
// stands for, as Kong reads it: a name with dots is nested
// (`config.url=...`); an array is one value, a name that repeats, `name[]` or
// `name[1]`, counted from 1; values become booleans and numbers where the
// field is one; an empty value is null. The error is a *FormError.
func (f Form) JSON(body string) ([]byte, error) {
	if strings.HasPrefix(strings.TrimLeft(body, " \t\r\n"), "{") {
		return nil, &FormError{"the body looks like JSON: send it with Content-Type: application/json"}
	}
	values, err := url.ParseQuery(body)
	if err != nil {
		return nil, &FormError{"the form is not well encoded"}
	}
	tree := make(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !utf8.ValidString(name) || slices.ContainsFunc(values[name], func(s string) bool { return !utf8.ValidString(s) }) {
			return nil, &FormError{"the form is not UTF-8"}
		}
		path := strings.Split(name, ".")
		if len(path) > maxFormDepth {
			return nil, &FormError{fmt.Sprintf("a name is more than %d deep", maxFormDepth)}
		}
		put(tree, f.fields, path, values[name])
	}
	return strictjson.Encode(settle(tree))
}

// put lays the values of one name into the tree.
func put(tree map[string]any, fields []field, path, values []string) {
	name, index := path[0], math.MaxInt
	if base, rest, ok := strings.Cut(name, "["); ok && strings.HasSuffix(rest, "]") && base != "" {
		n, err := strconv.Atoi(rest[:len(rest)-1])
		if rest == "]" || err == nil {
			name = base
		}
		if err == nil {
			index = n
		}
	}
	f := field{kind: text, name: name}
	known := false
	if i := slices.IndexFunc(fields, func(f field) bool { return f.name == name }); i >= 0 {
		f, known = fields[i], true
	}
	if len(path) > 1 && (!known || f.kind == record || f.kind == mapping || f.kind == free || f.kind == fixed) {
		below, ok := tree[name].(map[string]any)
		if !ok {
			if tree[name] != nil { // both a value and a name with values below: the value stays, and is at fault
				return
			}
			below = make(map[string]any)
			tree[name] = below
		}
		switch f.kind {
		case mapping: // what follows is one name, dots and all
			element := *f.elements
			element.name, _, _ = strings.Cut(strings.Join(path[1:], "."), "[")
			put(below, []field{element}, []string{strings.Join(path[1:], ".")}, values)
		default:
			put(below, f.fields, path[1:], values)
		}
		return
	}
	if len(path) > 1 {
		name = strings.Join(path, ".") // below a field that has nothing below: an unknown field
	}
	isList := f.kind == array || f.kind == set || !known && (index != math.MaxInt || strings.HasSuffix(path[0], "[]"))
	if !isList && len(values) == 1 {
		tree[name] = f.infer(values[0])
		return
	}
	list, _ := tree[name].(indexed)
	for _, v := range values {
		if f.elements != nil {
			list = append(list, at{index, f.elements.infer(v)})
		} else {
			list = append(list, at{index, f.infer(v)})
		}
	}
	tree[name] = list
}

// indexed is an array whose elements have not been put in order yet: those
// with an index by it, then the others.
type indexed []at

type at struct {
	index int
	value any
}

// settle puts all arrays of a tree in order.
func settle(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, below := range v {
			v[name] = settle(below)
		}
	case indexed:
		slices.SortStableFunc(v, func(a, b at) int { return cmp.Compare(a.index, b.index) })
		list := make([]any, 0, len(v))
		for _, e := range v {
			list = append(list, e.value)
		}
		return list
	}
	return v
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
