package filter

import "slices"

// Set finds, among many patterns, those that fit an event's data, without
// asking each of them. A pattern with a field that must have one of some values,
// as {"upstream_id": ["a", "b"]}, is asked only about data with one of these
// values there; the others are asked about all data. Fields in a $or are not
// such ones, and no field with an operator is, but for a numeric "=".
//
// T is what has a pattern. Safe for concurrent use while it does not change.
type Set[T any] struct {
	compare func(a, b T) int
	pattern func(T) *Pattern
	root    node[T]
	rest    []T // asked about all data; in order
}

// node is a place in the data: the members of an object there, and the values
// that patterns ask for there.
type node[T any] struct {
	members map[string]*node[T]
	values  map[key]*wanted[T]
}

// wanted is a value that patterns ask for at a place.
type wanted[T any] struct {
	asked int // how many do
	items []T // those of them that are found by it, in order
}

// NewSet returns a set of items, which come in the order of compare, no two of
// them equal. The pattern of an item is asked for whenever it is needed, and
// stays the same while the item is in the set; nil fits any data.
//
// Each is found by the field whose values the fewest patterns ask for. Put
// keeps to what was chosen for others, so after many changes a new set is the
// better one.
func NewSet[T any](compare func(a, b T) int, pattern func(T) *Pattern, items []T) *Set[T] {
	s := &Set[T]{compare: compare, pattern: pattern}
	for _, item := range items {
		s.count(item)
	}
	for _, item := range items {
		s.place(item)
	}
	return s
}

// Put adds an item that is not in the set.
func (s *Set[T]) Put(item T) {
	s.count(item)
	s.place(item)
}

// Remove takes out an item that is in the set.
func (s *Set[T]) Remove(item T) {
	s.rest = s.without(s.rest, item)
	s.each(item, func(n *node[T], x *exact) {
		x.each(func(k key) {
			w := n.values[k]
			w.items = s.without(w.items, item)
			if w.asked--; w.asked == 0 {
				delete(n.values, k)
			}
		})
	})
}

// count notes what an item's pattern asks for.
func (s *Set[T]) count(item T) {
	s.each(item, func(n *node[T], x *exact) {
		if n.values == nil {
			n.values = map[key]*wanted[T]{}
		}
		x.each(func(k key) {
			w := n.values[k]
			if w == nil {
				w = &wanted[T]{}
				n.values[k] = w
			}
			w.asked++
		})
	})
}

// place makes an item that was counted be found. The field is the one whose
// most wanted value is the least wanted: this bounds how many are asked in vain.
func (s *Set[T]) place(item T) {
	var (
		at     *node[T]
		by     *exact
		fewest int
	)
	s.each(item, func(n *node[T], x *exact) {
		most := 0
		x.each(func(k key) { most = max(most, n.values[k].asked) })
		if at == nil || most < fewest || most == fewest && x.size() < by.size() {
			at, by, fewest = n, x, most
		}
	})
	if at == nil {
		s.rest = s.with(s.rest, item)
		return
	}
	by.each(func(k key) {
		w := at.values[k]
		w.items = s.with(w.items, item)
	})
}

// each calls do with every field of an item's pattern that must have one of some
// values, and its place.
func (s *Set[T]) each(item T, do func(*node[T], *exact)) {
	if p := s.pattern(item); p != nil {
		s.root.each(&p.root, do)
	}
}

func (n *node[T]) each(o *object, do func(*node[T], *exact)) {
	for i := range o.fields {
		switch f := &o.fields[i]; {
		case f.object != nil:
			n.member(f.name).each(f.object, do)
		case f.leaf.onlyExact():
			do(n.member(f.name), &f.leaf.exact)
		}
	}
}

func (n *node[T]) member(name string) *node[T] {
	m := n.members[name]
	if m == nil {
		m = &node[T]{}
		if n.members == nil {
			n.members = map[string]*node[T]{}
		}
		n.members[name] = m
	}
	return m
}

func (s *Set[T]) with(items []T, item T) []T {
	if n := len(items); n == 0 || s.compare(items[n-1], item) < 0 {
		return append(items, item)
	}
	i, _ := slices.BinarySearchFunc(items, item, s.compare)
	return slices.Insert(items, i, item)
}

func (s *Set[T]) without(items []T, item T) []T {
	if i, found := slices.BinarySearchFunc(items, item, s.compare); found {
		return slices.Delete(items, i, i+1)
	}
	return items
}

// Match returns the items whose patterns fit the data, in order. The cost is
// that of the data, and of the items that are asked.
func (s *Set[T]) Match(data map[string]any) []T {
	q := search[T]{compare: s.compare, room: untidy}
	q.object(&s.root, data, false)
	if q.lists > 1 {
		q.tidy()
	}
	fit := make([]T, 0, min(len(q.found)+len(s.rest), 16))
	for found, rest := q.found, s.rest; len(found)+len(rest) > 0; {
		var item T
		if len(rest) == 0 || len(found) > 0 && s.compare(found[0], rest[0]) < 0 {
			item, found = found[0], found[1:]
		} else {
			item, rest = rest[0], rest[1:]
		}
		if s.pattern(item).Match(data) {
			fit = append(fit, item)
		}
	}
	return fit
}

// search finds items by the values of an event's data. Each value is looked at
// once at most, however many patterns there are.
type search[T any] struct {
	compare func(a, b T) int
	found   []T
	lists   int                 // of which found was put together
	seen    map[*wanted[T]]bool // those met inside arrays, where a value may come again
	room    int                 // how many may be found until they are tidied
}

// untidy is how many items may be found, one again and again, until they are
// tidied: at first, and from then on beyond twice those that were left. Fewer are
// put in order once, in the end.
const untidy = 1000

// object looks at members; many says that they lie inside an array. A pattern
// that fits has its values in them or, in an array, in one of its elements, so
// that to look at all elements as if they were one finds enough.
func (q *search[T]) object(n *node[T], members map[string]any, many bool) {
	if len(n.members) < len(members) {
		for name, m := range n.members {
			if v, there := members[name]; there {
				q.value(m, v, many)
			}
		}
		return
	}
	for name, v := range members {
		if m := n.members[name]; m != nil {
			q.value(m, v, many)
		}
	}
}

func (q *search[T]) value(n *node[T], v any, many bool) {
	switch v := v.(type) {
	case map[string]any:
		q.object(n, v, many)
	case []any:
		for _, e := range v {
			q.value(n, e, true)
		}
	default:
		if len(n.values) == 0 {
			return
		}
		if w := n.values[keyOf(valueOf(v))]; w != nil && len(w.items) > 0 {
			q.take(w, many)
		}
	}
}

func (q *search[T]) take(w *wanted[T], many bool) {
	if many {
		if q.seen[w] {
			return
		}
		if q.seen == nil {
			q.seen = map[*wanted[T]]bool{}
		}
		q.seen[w] = true
	}
	if q.lists++; q.lists == 1 {
		q.found = slices.Clip(w.items) // mostly the only ones, so they are not copied
		return
	}
	q.found = append(q.found, w.items...)
	// An array may hold many alternatives of one pattern.
	if len(q.found) > q.room {
		q.tidy()
		q.room = 2*len(q.found) + untidy
	}
}

// tidy puts what was found in order, and each item there once.
func (q *search[T]) tidy() {
	slices.SortFunc(q.found, q.compare)
	q.found = slices.CompactFunc(q.found, func(a, b T) bool { return q.compare(a, b) == 0 })
}

// onlyExact reports whether nothing but exact values fits.
func (l *leaf) onlyExact() bool {
	return !l.exists && !l.absent && len(l.blocks) == 0 && len(l.tests) == 0
}

// key is a value in the one form that all ways to write it share: two keys are
// equal exactly when exact takes their values for one.
type key struct {
	kind  kind
	sign  int8   // of a number; of a boolean 1 is true
	text  string // a text, or a number's digits
	point int64  // of a number
}

func keyOf(v value) key {
	switch v.kind {
	case number:
		return parseDecimal(v.text).key()
	case boolean:
		if v.yes {
			return key{kind: boolean, sign: 1}
		}
		return key{kind: boolean}
	}
	return key{kind: v.kind, text: v.text}
}

func (d decimal) key() key {
	return key{kind: number, sign: int8(d.sign), text: d.head + d.tail, point: d.point}
}

// each calls do with the key of each value.
func (x *exact) each(do func(key)) {
	for _, t := range x.texts {
		do(key{kind: text, text: t})
	}
	for _, n := range x.numbers {
		do(n.key())
	}
	if x.yes {
		do(key{kind: boolean, sign: 1})
	}
	if x.no {
		do(key{kind: boolean})
	}
	if x.empty {
		do(key{kind: null})
	}
}

// size is how many values there are.
func (x *exact) size() int {
	n := len(x.texts) + len(x.numbers)
	for _, there := range []bool{x.yes, x.no, x.empty} {
		if there {
			n++
		}
	}
	return n
}
