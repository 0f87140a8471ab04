package schema

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/strictjson"
)

// Faults are all that is wrong with a document, nested as the document is:
// Kong's `fields`. It is an error whose text is Kong's message, with a fault's
// full path: "schema violation (config.url: required field missing)". Where
// Kong prints what lies deeper than two levels as a Lua table, the path goes on
// here, and each fault counts.
//
// The zero value has no faults. A *Faults that has any is an error; Err gives
// it as one.
type Faults struct {
	text   string             // a leaf's fault; "" for a branch
	fields map[string]*Faults // of a record or a map, by name
	items  map[int]*Faults    // of an array, counted from 1
	entity []string           // of the document as a whole
}

// Add notes a fault of the field at the path ("config", "url"). What was noted
// first stays: a field has one fault, and none below it.
func (f *Faults) Add(text string, path ...string) {
	for _, name := range path {
		if f.text != "" {
			return
		}
		f = f.field(name)
	}
	if f.none() {
		f.text = text
	}
}

// AddEntity notes a fault of the whole document.
func (f *Faults) AddEntity(text string) { f.entity = append(f.entity, text) }

// AddFields notes faults whose fields are written with dots, as a check of a
// hook's action returns them. A header's name is one field, dots and all, and
// `config.functions.2` is the second element of an array.
func (f *Faults) AddFields(errs hook.FieldErrors) {
	const headers, functions = "config.headers.", "config.functions."
	for _, name := range slices.Sorted(maps.Keys(errs)) {
		rest, isFunction := strings.CutPrefix(name, functions)
		n, err := strconv.Atoi(rest)
		switch {
		case name == "@entity":
			f.AddEntity(errs[name])
		case strings.HasPrefix(name, headers):
			f.Add(errs[name], "config", "headers", strings.TrimPrefix(name, headers))
		case isFunction && err == nil && n >= 1 && n <= hook.MaxFunctions:
			f.addItem(errs[name], n, "config", "functions")
		default:
			f.Add(errs[name], strings.Split(name, ".")...)
		}
	}
}

// addItem notes a fault of the n-th element, counted from 1, of the array at
// the path.
func (f *Faults) addItem(text string, n int, path ...string) {
	for _, name := range path {
		if f.text != "" {
			return
		}
		f = f.field(name)
	}
	if f.text == "" && len(f.fields) == 0 {
		f.item(n).Add(text)
	}
}

// addWhere notes a fault of a part of a document that was decoded. The
// document tells which parts of the path are elements, counted from 1.
func (f *Faults) addWhere(doc any, text string, path []string) {
	for _, name := range path {
		if f.text != "" {
			return
		}
		list, isList := doc.([]any)
		if n, err := strconv.Atoi(name); isList && err == nil && n >= 1 && n <= len(list) {
			f, doc = f.item(n), list[n-1]
			continue
		}
		below, _ := doc.(map[string]any)
		f, doc = f.field(name), below[name]
	}
	f.Add(text)
}

// Nest notes the faults of a document that is the value of the field: as they
// are, below it. The field's own fault, if it has one, stays alone. nil is no
// fault.
func (f *Faults) Nest(name string, inner *Faults) {
	if f.text == "" && inner != nil && !inner.none() {
		f.field(name).absorb(inner)
	}
}

func (f *Faults) absorb(inner *Faults) {
	switch {
	case f.text != "":
		return
	case inner.text != "":
		f.Add(inner.text)
		return
	}
	f.entity = append(f.entity, inner.entity...)
	for name, below := range inner.fields {
		f.field(name).absorb(below)
	}
	for n, below := range inner.items {
		f.item(n).absorb(below)
	}
}

// Err returns f as an error, nil when there are no faults.
func (f *Faults) Err() error {
	if f.none() {
		return nil
	}
	return f
}

// none reports whether there are no faults: branches may be there, and empty.
func (f *Faults) none() bool {
	if f.text != "" || len(f.entity) > 0 {
		return false
	}
	for _, below := range f.fields {
		if !below.none() {
			return false
		}
	}
	for _, below := range f.items {
		if !below.none() {
			return false
		}
	}
	return true
}

// Error is Kong's message: those of the whole first, then the fields in the
// order of their names.
func (f *Faults) Error() string {
	leaves := f.leaves(nil, "")
	n := len(leaves)
	if n == 1 {
		return "schema violation (" + leaves[0] + ")"
	}
	if n > maxTold {
		leaves = append(leaves[:maxTold], fmt.Sprintf("and %d more", n-maxTold))
	}
	return fmt.Sprintf("%d schema violations (%s)", n, strings.Join(leaves, "; "))
}

// maxTold bounds the faults that a message lists. `fields` holds them all: it
// repeats each name once, the message each name's whole path.
const maxTold = 100

// maxWhere is how many bytes of a path to a field a message tells.
const maxWhere = 512

// MarshalJSON is Kong's `fields`: a text for a leaf, an object for a record or
// a map, an array with null for what is right, and the faults of the whole
// under "@entity".
func (f *Faults) MarshalJSON() ([]byte, error) {
	if f.text != "" {
		return strictjson.Encode(f.text)
	}
	if len(f.items) > 0 {
		list := make([]*Faults, slices.Max(slices.Collect(maps.Keys(f.items))))
		for i, item := range f.items {
			list[i-1] = item
		}
		return strictjson.Encode(list)
	}
	var b bytes.Buffer
	b.WriteByte('{')
	put := func(name string, value any) error {
		k, err := strictjson.Encode(name)
		if err != nil {
			return err
		}
		v, err := strictjson.Encode(value)
		if err != nil {
			return err
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(v)
		return nil
	}
	if len(f.entity) > 0 {
		if err := put("@entity", f.entity); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.fields)) {
		if f.fields[name].none() {
			continue
		}
		if err := put(name, f.fields[name]); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// field returns the branch of that name, which is made if it is not there.
func (f *Faults) field(name string) *Faults {
	if f.fields[name] == nil {
		if f.fields == nil {
			f.fields = make(map[string]*Faults)
		}
		f.fields[name] = &Faults{}
	}
	return f.fields[name]
}

// item returns the branch of an array's element, counted from 1.
func (f *Faults) item(n int) *Faults {
	if f.items[n] == nil {
		if f.items == nil {
			f.items = make(map[int]*Faults)
		}
		f.items[n] = &Faults{}
	}
	return f.items[n]
}

// leaves appends "path: fault" of every fault.
func (f *Faults) leaves(dst []string, path string) []string {
	if f.text != "" {
		return append(dst, clip(path, maxWhere)+": "+f.text)
	}
	for _, text := range f.entity {
		if path != "" {
			text = path + ": " + text
		}
		dst = append(dst, text)
	}
	if path != "" {
		path += "."
	}
	for _, n := range slices.Sorted(maps.Keys(f.items)) {
		dst = f.items[n].leaves(dst, path+strconv.Itoa(n))
	}
	for _, name := range slices.Sorted(maps.Keys(f.fields)) {
		dst = f.fields[name].leaves(dst, path+name)
	}
	return dst
}
