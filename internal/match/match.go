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

// Index finds the hooks that are bound to a source and event. The zero value is
// empty and ready. Not safe for concurrent use while it changes.
type Index struct {
	byID    map[string]hook.Hook
	buckets map[bucket][]hook.Hook // in the order of ids
}

// bucket is what a hook is bound to; event "" is every event of the source.
type bucket struct{ source, event string }

func bucketOf(h hook.Hook) bucket { return bucket{h.Source, h.Event} }

func byHookID(h hook.Hook, id string) int { return cmp.Compare(h.ID, id) }

// Put adds a hook or replaces the one with its id.
func (x *Index) Put(h hook.Hook) {
	if x.byID == nil {
		x.byID, x.buckets = map[string]hook.Hook{}, map[bucket][]hook.Hook{}
	}
	x.Remove(h.ID)
	x.byID[h.ID] = h
	b := bucketOf(h)
	i, _ := slices.BinarySearchFunc(x.buckets[b], h.ID, byHookID)
	x.buckets[b] = slices.Insert(x.buckets[b], i, h)
}

// Remove takes a hook out, if it is there.
func (x *Index) Remove(id string) {
	h, ok := x.byID[id]
	if !ok {
		return
	}
	delete(x.byID, id)
	b := bucketOf(h)
	if i, found := slices.BinarySearchFunc(x.buckets[b], id, byHookID); found {
		x.buckets[b] = slices.Delete(x.buckets[b], i, i+1)
	}
	if len(x.buckets[b]) == 0 {
		delete(x.buckets, b)
	}
}

// Hook returns the hook with that id.
func (x *Index) Hook(id string) (hook.Hook, bool) {
	h, ok := x.byID[id]
	return h, ok
}

// Len returns the number of hooks.
func (x *Index) Len() int { return len(x.byID) }

// Match appends to dst the hooks that want the event. The cost is that of the
// hooks bound to the event's source and event, however many others there are.
func (x *Index) Match(dst []hook.Hook, ev hook.Event) []hook.Hook {
	for _, h := range x.buckets[bucket{ev.Source, ev.Event}] {
		if Refusal(h, ev) == "" {
			dst = append(dst, h)
		}
	}
	if ev.Event == "" {
		return dst
	}
	for _, h := range x.buckets[bucket{ev.Source, ""}] {
		if Refusal(h, ev) == "" {
			dst = append(dst, h)
		}
	}
	return dst
}

// Refusal says why a hook that is bound to the event's source and event does
// not want it, in a word; "" when it does. The cheapest reason comes first.
func Refusal(h hook.Hook, ev hook.Event) string {
	switch {
	case !h.Enabled:
		return "disabled"
	case h.Workspace != "" && h.Workspace != ev.Workspace:
		return "workspace"
	}
	return ""
}
