// Package match decides which hooks want an event, and under which keys
// on_change and snooze remember it.
//
// It is pure: no I/O, no clock.
package match

import (
	"cmp"
	"slices"

	"eventhooks/internal/hook"
)

// Index finds the hooks that want an event. The zero value is empty and ready.
// Not safe for concurrent use while it changes.
type Index struct {
	byID    map[string]*entry
	buckets map[bucket][]*entry // in the order of ids
}

// bucket is what a hook is bound to; event "" is every event of the source.
type bucket struct{ source, event string }

// entry is a hook with its filter.
type entry struct {
	hook   hook.Hook
	filter lazyFilter
}

func (e *entry) bucket() bucket { return bucket{e.hook.Source, e.hook.Event} }

func byHookID(e *entry, id string) int { return cmp.Compare(e.hook.ID, id) }

// Put adds a hook or replaces the one with its id.
func (x *Index) Put(h hook.Hook) {
	if x.byID == nil {
		x.byID, x.buckets = map[string]*entry{}, map[bucket][]*entry{}
	}
	x.Remove(h.ID)
	e := &entry{hook: h}
	x.byID[h.ID] = e
	b := e.bucket()
	i, _ := slices.BinarySearchFunc(x.buckets[b], h.ID, byHookID)
	x.buckets[b] = slices.Insert(x.buckets[b], i, e)
}

// Remove takes a hook out, if it is there.
func (x *Index) Remove(id string) {
	e, ok := x.byID[id]
	if !ok {
		return
	}
	delete(x.byID, id)
	b := e.bucket()
	if i, found := slices.BinarySearchFunc(x.buckets[b], id, byHookID); found {
		x.buckets[b] = slices.Delete(x.buckets[b], i, i+1)
	}
	if len(x.buckets[b]) == 0 {
		delete(x.buckets, b)
	}
}

// Hook returns the hook with that id.
func (x *Index) Hook(id string) (hook.Hook, bool) {
	if e, ok := x.byID[id]; ok {
		return e.hook, true
	}
	return hook.Hook{}, false
}

// Len returns the number of hooks.
func (x *Index) Len() int { return len(x.byID) }

// Match appends to dst the hooks that want the event. The cost is that of the
// hooks bound to the event's source and event, however many others there are.
// The event's data are read once, and only if one of those has a filter. Safe
// for concurrent use while the index does not change.
func (x *Index) Match(dst []hook.Hook, ev hook.Event) []hook.Hook {
	d := data{raw: ev.Data}
	dst = appendWanting(dst, x.buckets[bucket{ev.Source, ev.Event}], ev, &d)
	if ev.Event == "" {
		return dst
	}
	return appendWanting(dst, x.buckets[bucket{ev.Source, ""}], ev, &d)
}

func appendWanting(dst []hook.Hook, entries []*entry, ev hook.Event, d *data) []hook.Hook {
	for _, e := range entries {
		if asked(&e.hook, &ev) && (len(e.hook.Filter) == 0 || d.fit(e.filter.pattern(e.hook.Filter))) {
			dst = append(dst, e.hook)
		}
	}
	return dst
}

// asked reports whether a hook that is bound to the event's source and event
// may be told of it, as far as that is not its filter's to say.
func asked(h *hook.Hook, ev *hook.Event) bool {
	return h.Enabled && (h.Workspace == "" || h.Workspace == ev.Workspace)
}
