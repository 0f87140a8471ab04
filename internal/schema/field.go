package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"eventhooks/internal/strictjson"
)

// kind is the type of a field, in Kong's terms.
type kind int

const (
	text        kind = iota // string
	boolean                 // bool
	integer                 // int64
	number                  // float64
	record                  // object, with the fields that are named
	mapping                 // object, of elements
	array                   // []any, of elements
	set                     // as array, without repeats
	free                    // json.RawMessage: any JSON object, as it was sent
	ignored                 // whatever it is: read only, dropped
	fixed                   // accepted as Kong's default only, dropped
	undescribed             // in a form only: a name that no field has, and what is below it
)

// object is a document as it was read: text as string, boolean as bool,
// integer as int64, number as float64, record and mapping as object, array and
// set as []any, free as json.RawMessage, null as nil. What was not sent is not
// there, and what was at fault neither; but an element at fault leaves the zero
// value in its place, so that the others can be judged by who knows more.
type object map[string]any

// field describes one field of a document. Tables of them are made when they
// are needed, by functions: functions that link this package pay nothing at
// start.
type field struct {
	name     string
	kind     kind
	required bool
	def      any      // instead of null and of nothing; nil leaves null
	fields   []field  // record
	elements *field   // mapping, array, set; its name is not used
	oneOf    []string // text
	lo, hi   float64  // integer, number: both ends included; hi 0 is no bound
	instead  string   // integer, number: what else there is, the end of the fault of one out of bounds
	least    int      // array, set: number of elements
	most     int      // text, free: bytes; mapping, array, set: elements; 0 is no bound
	open     bool     // record: its fields are not known, so that none is looked at
	lists    bool     // free: in a form, a value at the end of a name is an array of one

	check   func(string) string   // text: its fault, or ""
	keys    func(string) string   // mapping: a name's fault, or ""
	examine func([]byte, *Faults) // free: notes its faults
	only    string                // fixed: Kong's default as JSON
}

// Faults that more than one place finds.
const (
	missing = "required field missing"
	unknown = "unknown field"
)

// kongOnly is the fault of a field that would do something in Kong and nothing
// here.
const kongOnly = "Event Hooks does not balance traffic: leave it out, or at Kong's default"

// isObject returns a *strictjson.Error unless doc is one strict JSON object.
func isObject(doc []byte) error {
	_, err := strictjson.Object(doc, strictjson.Limits{})
	return err
}

// readRecord reads a JSON object, which was checked, into the fields that are
// there. A name that no field has is a fault.
func readRecord(raw []byte, fields []field, faults *Faults) object {
	members, err := strictjson.Object(raw, strictjson.Limits{})
	if err != nil {
		faults.Add("expected a record")
		return nil
	}
	o := make(object, len(members))
	for _, m := range members {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == m.Name })
		if i < 0 {
			faults.Add(unknown, m.Name)
			continue
		}
		if fields[i].kind == ignored {
			continue
		}
		if v, ok := fields[i].read(m.Value, faults, m.Name); (ok || v != nil) && fields[i].kind != fixed {
			o[m.Name] = v
		}
	}
	return o
}

// read reads a value; false when it is at fault, and then the value is nil, or
// what could be read of it. The fault is noted under name.
func (f field) read(raw []byte, faults *Faults, name string) (any, bool) {
	if strictjson.Kind(raw) == 'n' {
		return nil, true
	}
	switch f.kind {
	case record:
		if strictjson.Kind(raw) != '{' {
			faults.Add("expected a record", name)
			return nil, false
		}
		if f.open {
			return object{}, true
		}
		return readRecord(raw, f.fields, faults.field(name)), true
	case mapping:
		return f.readMapping(raw, faults, name)
	case array, set:
		return f.readArray(raw, faults, name)
	case free:
		if strictjson.Kind(raw) != '{' {
			faults.Add("expected a map", name)
			return nil, false
		}
		return f.readFree(strictjson.Compact(nil, raw), faults, name)
	case fixed:
		var got, want any
		if json.Unmarshal(raw, &got) != nil || json.Unmarshal([]byte(f.only), &want) != nil || !within(got, want) {
			faults.Add(kongOnly, name)
			return nil, false
		}
		return nil, true
	}
	v, fault := f.scalar(raw)
	if fault != "" {
		faults.Add(fault, name)
		return nil, false
	}
	return v, true
}

func (f field) readFree(doc []byte, faults *Faults, name string) (any, bool) {
	if f.most > 0 && len(doc) > f.most {
		faults.Add(fmt.Sprintf("length must be at most %d", f.most), name)
		return nil, false
	}
	if f.examine != nil {
		var below Faults
		if f.examine(doc, &below); !below.none() {
			faults.Nest(name, &below)
			return nil, false
		}
	}
	return json.RawMessage(doc), true
}

func (f field) readMapping(raw []byte, faults *Faults, name string) (any, bool) {
	if strictjson.Kind(raw) != '{' {
		faults.Add("expected a map", name)
		return nil, false
	}
	members, err := strictjson.Object(raw, strictjson.Limits{})
	if err != nil {
		faults.Add("expected a map", name)
		return nil, false
	}
	if f.most > 0 && len(members) > f.most {
		faults.Add(fmt.Sprintf("length must be at most %d", f.most), name)
		return nil, false
	}
	o, ok := make(object, len(members)), true
	for _, m := range members {
		if fault := f.keys(m.Name); fault != "" {
			faults.field(name).Add(fault, m.Name)
			ok = false
			continue
		}
		v, good := f.elements.read(m.Value, faults.field(name), m.Name)
		if good && v == nil { // null has no place in a map of Kong's
			faults.field(name).Add(f.elements.expected(), m.Name)
			good = false
		}
		if v == nil {
			v = f.elements.zero()
		}
		o[m.Name] = v
		ok = ok && good
	}
	return o, ok
}

func (f field) readArray(raw []byte, faults *Faults, name string) (any, bool) {
	if strictjson.Kind(raw) != '[' {
		faults.Add(f.expected(), name)
		return nil, false
	}
	elements, err := strictjson.Array(raw, strictjson.Limits{})
	switch {
	case err != nil:
		faults.Add(f.expected(), name)
		return nil, false
	case len(elements) < f.least:
		faults.Add(fmt.Sprintf("length must be at least %d", f.least), name)
		return nil, false
	case f.most > 0 && len(elements) > f.most:
		faults.Add(fmt.Sprintf("length must be at most %d", f.most), name)
		return nil, false
	}
	list, ok := make([]any, 0, len(elements)), true
	for i, e := range elements {
		v, fault := f.elements.scalar(e)
		if fault != "" {
			faults.field(name).item(i + 1).Add(fault)
			v, ok = f.elements.zero(), false
		}
		if f.kind == array || !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list, ok
}

// zero is what stands for an element at fault.
func (f field) zero() any {
	switch f.kind {
	case text:
		return ""
	case integer:
		return int64(0)
	}
	return nil
}

// scalar reads a string, a bool or a number.
func (f field) scalar(raw []byte) (_ any, fault string) {
	switch k := strictjson.Kind(raw); {
	case f.kind == text && k == '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return nil, f.expected()
		}
		return s, f.judge(s)
	case f.kind == boolean && (k == 't' || k == 'f'):
		return k == 't', ""
	case (f.kind == integer || f.kind == number) && k == '0':
		// What is beyond a float64 becomes infinite, and so is beyond every bound.
		n, err := strconv.ParseFloat(string(raw), 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) || f.kind == integer && n != math.Trunc(n) {
			return nil, f.expected()
		}
		if f.hi != 0 && (n < f.lo || n > f.hi) {
			return nil, fmt.Sprintf("value should be between %.0f and %.0f", f.lo, f.hi) + f.instead
		}
		if f.kind == number {
			return n, ""
		}
		if math.Abs(n) > 1<<53 {
			return nil, f.expected()
		}
		return int64(n), ""
	}
	return nil, f.expected()
}

// judge returns what is wrong with a string, "" for nothing. As in Kong, an
// empty string is no value.
func (f field) judge(s string) string {
	switch {
	case len(f.oneOf) > 0 && !slices.Contains(f.oneOf, s):
		return "expected one of: " + strings.Join(f.oneOf, ", ")
	case s == "":
		return "length must be at least 1"
	case f.most > 0 && len(s) > f.most:
		return fmt.Sprintf("length must be at most %d", f.most)
	case f.check != nil:
		return f.check(s)
	}
	return ""
}

func (f field) expected() string {
	switch f.kind {
	case text:
		return "expected a string"
	case boolean:
		return "expected a boolean"
	case integer:
		return "expected an integer"
	case number:
		return "expected a number"
	case array:
		return "expected an array"
	case set:
		return "expected a set"
	case mapping, free:
		return "expected a map"
	}
	return "expected a record"
}

// merge lays what was sent over what is stored: records field by field,
// everything else as a whole. Neither is changed.
func merge(stored, sent object, fields []field) object {
	o := maps.Clone(stored)
	for name, v := range sent {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		below, isRecord := v.(object)
		old, wasRecord := o[name].(object)
		if i >= 0 && fields[i].kind == record && isRecord && wasRecord {
			v = merge(old, below, fields[i].fields)
		}
		o[name] = v
	}
	return o
}

// complete fills in the defaults, and notes what is required and not there. A
// record that is not there is made when it is required.
func complete(o object, fields []field, faults *Faults) {
	for _, f := range fields {
		v := o[f.name]
		if v == nil && f.kind == record && f.required {
			v = object{}
			o[f.name] = v
		}
		below, isRecord := v.(object)
		switch {
		case isRecord && f.kind == record:
			if below == nil { // it was no record: that fault is noted
				continue
			}
			complete(below, f.fields, faults.field(f.name))
		case v != nil:
		case f.def != nil:
			o[f.name] = f.def
		case f.required:
			faults.Add(missing, f.name)
		}
	}
}

// within reports whether got says nothing but what want says: objects may
// leave members out, and null is nothing said.
func within(got, want any) bool {
	switch g := got.(type) {
	case nil:
		return true
	case map[string]any:
		w, ok := want.(map[string]any)
		if !ok {
			return false
		}
		for name, v := range g {
			expected, known := w[name]
			if !known || !within(v, expected) {
				return false
			}
		}
		return true
	case []any:
		w, ok := want.([]any)
		return ok && slices.EqualFunc(g, w, within)
	default:
		return got == want
	}
}

// Values of an object that was completed; the zero value when there is none.

func (o object) text(name string) string {
	s, _ := o[name].(string)
	return s
}

func (o object) textOrNil(name string) *string {
	if s, ok := o[name].(string); ok {
		return &s
	}
	return nil
}

func (o object) boolean(name string) bool {
	b, _ := o[name].(bool)
	return b
}

func (o object) integer(name string) int64 {
	n, _ := o[name].(int64)
	return n
}

func (o object) number(name string) float64 {
	n, _ := o[name].(float64)
	return n
}

func (o object) record(name string) object {
	r, _ := o[name].(object)
	return r
}

// texts returns a list of strings, nil for null and for an empty list: what is
// stored does not tell them apart.
func (o object) texts(name string) []string {
	list, _ := o[name].([]any)
	var s []string
	for _, v := range list {
		s = append(s, v.(string))
	}
	return s
}

func (o object) integers(name string) []int64 {
	list, _ := o[name].([]any)
	n := make([]int64, 0, len(list))
	for _, v := range list {
		n = append(n, v.(int64))
	}
	return n
}

// anys is the opposite of texts and integers.
func anys[T any](list []T) any {
	if list == nil {
		return nil
	}
	a := make([]any, 0, len(list))
	for _, v := range list {
		a = append(a, v)
	}
	return a
}
