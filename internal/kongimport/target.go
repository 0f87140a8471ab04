package kongimport

import (
	"context"
	"fmt"
	"net/http"
	"slices"
)

// maxTargets is how many targets an upstream has here.
const maxTargets = 500

// targets are those of one upstream while they are imported.
type targets struct {
	im       *importer
	path     string
	theirs   []entity          // Kong's, with the names they have here
	here     map[string]entity // ours by id, as they become
	holders  map[string]string // their ids by address
	waiting  map[string]string // addresses of Kong's that are still to come, by id
	count    map[outcome]int
	leftOut  []string // fields that do something in Kong, and nothing here
	onlyHere []string // addresses
	reasons  []string // why some are refused, in order
	refused  map[string][]string
}

func newTargets(im *importer, upstreamID string, theirs, ours []entity) *targets {
	t := &targets{
		im: im, path: "/upstreams/" + upstreamID + "/targets/",
		here: map[string]entity{}, holders: map[string]string{}, waiting: map[string]string{},
		count: map[outcome]int{}, refused: map[string][]string{},
	}
	for _, e := range ours {
		t.here[e.id], t.holders[e.name] = e, e.id
	}
	listed := map[string]bool{}
	for _, e := range theirs {
		listed[e.id] = true
	}
	for _, e := range theirs {
		var leftOut []string
		e.sent, leftOut = carry(e.row, targetFields(), nil, "")
		for _, name := range leftOut {
			if !slices.Contains(t.leftOut, name) {
				t.leftOut = append(t.leftOut, name)
			}
		}
		if e.id == "" {
			t.refuse(e, "id: not a UUID; look at what the Admin API answers")
			continue
		}
		want, err := asShown(e.sent, e.id, true)
		if err != nil {
			t.refuse(e, fault(err))
			continue
		}
		e.want, e.name = want, text(want, "target")
		// Deleted in Kong and added again, it has another id there. That is no
		// reason to forget what is known of it: its id here stays.
		if holder := t.holders[e.name]; t.here[e.id].id == "" && holder != "" && !listed[holder] {
			e.id = holder
			listed[holder] = true
		}
		t.waiting[e.id] = e.name
		t.theirs = append(t.theirs, e)
	}
	for _, e := range ours {
		if !listed[e.id] {
			t.count[isOnlyHere]++
			t.onlyHere = append(t.onlyHere, e.name)
		}
	}
	return t
}

func (t *targets) refuse(e entity, why string) {
	if t.refused[why] == nil {
		t.reasons = append(t.reasons, why)
	}
	t.refused[why] = append(t.refused[why], e.name)
	t.count[isRefused]++
}

// run imports them. The error is one that ends the import.
func (t *targets) run(ctx context.Context) error {
	moves := func(e entity) bool {
		holder := t.holders[e.name]
		next, comes := t.waiting[holder]
		return holder != e.id && comes && next != e.name
	}
	return inTurn(t.theirs, moves, func(e entity) error {
		delete(t.waiting, e.id)
		return t.put(ctx, e)
	})
}

func (t *targets) put(ctx context.Context, e entity) error {
	old, isHere := t.here[e.id]
	what, body := isCreated, e.sent
	if isHere {
		what, body = isUnchanged, overlay(old.row, e.sent)
		if len(differences(e.sent, e.want, old.row, targetFields(), "")) > 0 {
			what = isUpdated
		}
	}
	switch holder := t.holders[e.name]; {
	case holder != "" && holder != e.id:
		t.refuse(e, fmt.Sprintf("target: target %s has this address here already; delete that one, then import again", holder))
		return nil
	case !isHere && len(t.here) >= maxTargets:
		t.refuse(e, fmt.Sprintf("an upstream has at most %d targets here; delete some that Kong does not list, or divide the upstream in Kong", maxTargets))
		return nil
	}
	if what != isUnchanged && !t.im.o.DryRun {
		_, err := t.im.ours.do(ctx, http.MethodPut, t.path+e.id, nil, body)
		if singular(err) {
			t.refuse(e, fault(err))
			return nil
		}
		if err != nil {
			return err
		}
	}
	delete(t.holders, old.name)
	t.here[e.id], t.holders[e.name] = e, e.id
	t.count[what]++
	return nil
}
