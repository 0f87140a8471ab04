// Package filter decides whether an event's data fit a hook's filter: a pattern
// written as Amazon EventBridge writes event patterns. docs/filters.md says what
// each operator means and where the two differ.
//
// A pattern is parsed once and then only read. What matching costs is bounded
// by the sizes of the pattern and of the data: nothing backtracks, and no
// alternative is looked at twice for one value.
package filter

import (
	"strings"
)

// What bounds a pattern.
const (
	// MaxBytes bounds a pattern as JSON, without blanks between its tokens.
	MaxBytes = 4096
	// MaxDepth bounds how many objects lie inside each other, the pattern
	// itself and the alternatives of a $or included. Operators do not count.
	MaxDepth = 8
	// MaxStars bounds the stars in all wildcards of a pattern together.
	MaxStars = 8
	// MaxExponent bounds the exponents of a pattern's numbers, either way.
	MaxExponent = 1_000_000_000
)

// Pattern is a filter ready to match. The zero value, and nil, match any data.
// Safe for concurrent use.
type Pattern struct {
	root   object
	source string // the pattern as compact JSON, for Explain
}

// Fault is one thing that is wrong with a pattern.
type Fault struct {
	// Path leads to what is wrong: names of members, and elements of arrays
	// counted from 1. Empty means the pattern as a whole.
	Path []string
	// Text says what would be right.
	Text string
}

// String is the path with dots, and the text.
func (f Fault) String() string {
	if len(f.Path) == 0 {
		return f.Text
	}
	return strings.Join(f.Path, ".") + ": " + f.Text
}

// Errors are all faults of a pattern: those of members in the order of their
// names, those of elements in their own order. Never empty when it is an error.
type Errors []Fault

func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, f := range e {
		texts[i] = f.String()
	}
	return strings.Join(texts, "; ")
}

// Match reports whether an event's data fit. The data are as strictjson.Decode
// gives them, numbers as json.Number.
func (p *Pattern) Match(data map[string]any) bool { return p == nil || p.root.fits(data) }

// object is what is wanted of an object: all of its fields, and one of or's
// alternatives where there are any.
type object struct {
	fields []field // in the order of their names
	or     []object
}

// field is what is wanted of one member: leaf or object, the other one is nil.
type field struct {
	name   string
	leaf   *leaf
	object *object
}

// fits reports whether the members are as wanted; nil is an object that has
// none, and stands for one that is not there.
func (o *object) fits(members map[string]any) bool {
	for i := range o.fields {
		f := &o.fields[i]
		if v, there := members[f.name]; !f.fits(v, there) {
			return false
		}
	}
	if len(o.or) == 0 {
		return true
	}
	for i := range o.or {
		if o.or[i].fits(members) {
			return true
		}
	}
	return false
}

func (f *field) fits(v any, there bool) bool {
	switch {
	case f.leaf != nil && there:
		return f.leaf.fits(v)
	case f.leaf != nil:
		return f.leaf.absent
	}
	fits, any := f.object.within(v)
	return fits || !any && f.object.fits(nil)
}

// within looks for one object that fits in v, which is one or holds some in
// arrays: whether there is one that fits, and whether there is any.
func (o *object) within(v any) (fits, any bool) {
	switch v := v.(type) {
	case map[string]interface{}:
		return o.fits(v), true
	case []interface{}:
		for _, e := range v {
			f, a := o.within(e)
			if f {
				return true, true
			}
			any = any || a
		}
	}
	return false, any
}

// leaf is what is wanted of a value: one of the alternatives.
type leaf struct {
	exact
	exists bool // any value will do
	absent bool // no value will do
	blocks blocks
	tests  []test
}

// fits reports whether a value is as wanted; of an array, one of its elements.
// Objects are no values, so an object, or an array of none but objects, is as
// good as absent.
func (l *leaf) fits(v any) bool {
	fits, any := l.within(v)
	return fits || !any && l.absent
}

// within looks for one value that fits in v, which is one or holds some in
// arrays: whether there is one that fits, and whether there is any.
func (l *leaf) within(v any) (fits, any bool) {
	switch v := v.(type) {
	case map[string]interface{}:
		return false, false
	case []interface{}:
		for _, e := range v {
			f, a := l.within(e)
			if f {
				return true, true
			}
			any = any || a
		}
		return false, any
	}
	return l.exists || l.one(valueOf(v)), true
}

func (l *leaf) one(v value) bool {
	if l.has(v) || len(l.blocks) > 0 && l.blocks.fits(v) {
		return true
	}
	for _, t := range l.tests {
		if t.fits(v) {
			return true
		}
	}
	return false
}
