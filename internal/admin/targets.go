package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
	"eventhooks/internal/schema"
)

// maxTargets is how many targets one upstream has.
const maxTargets = 500

func (s *Service) listTargets(ctx context.Context, c *call) (*answer, error) {
	u, err := s.upstream(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	prefix := u.ID + "/"
	p, err := c.paging(func(key string) bool {
		id, here := strings.CutPrefix(key, prefix)
		return here && isID(id)
	})
	if err != nil {
		return nil, err
	}
	tagged, err := tagFilter(p.query)
	if err != nil {
		return nil, err
	}
	last, err := s.fill(ctx, p, hook.KindTarget, prefix, p.query.Has("tags"), func(r hook.Record) (any, bool, error) {
		t, err := record.ToTarget(r)
		return schema.ShowTarget(t), err == nil && tagged(t.Tags), err
	})
	if err != nil {
		return nil, err
	}
	return p.answer("/upstreams/"+c.params["upstream"]+"/targets", last, "tags"), nil
}

func (s *Service) getTarget(ctx context.Context, c *call) (*answer, error) {
	t, err := s.target(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	return ok(schema.ShowTarget(t)), nil
}

func (s *Service) createTarget(ctx context.Context, c *call) (*answer, error) {
	if _, err := s.upstream(ctx, c, errNotFound()); err != nil {
		return nil, err
	}
	doc, err := c.document(schema.TargetForm())
	if err != nil {
		return nil, err
	}
	t, err := s.writeTarget(ctx, c, func([]hook.Target) (hook.Target, error) {
		return schema.NewTarget(doc, "", "")
	})
	if err != nil {
		return nil, err
	}
	return created(schema.ShowTarget(t)), nil
}

func (s *Service) patchTarget(ctx context.Context, c *call) (*answer, error) {
	absent := noEntity(c.targetBy())
	if _, err := s.target(ctx, c, absent); err != nil {
		return nil, err
	}
	doc, err := c.document(schema.TargetForm())
	if err != nil {
		return nil, err
	}
	t, err := s.writeTarget(ctx, c, func(all []hook.Target) (hook.Target, error) {
		stored, found := c.pick(all)
		if !found {
			return hook.Target{}, absent
		}
		t, err := schema.PatchTarget(doc, stored)
		t.CreatedAt, t.Changed = stored.CreatedAt, stored.Changed
		return t, err
	})
	if err != nil {
		return nil, err
	}
	return ok(schema.ShowTarget(t)), nil
}

func (s *Service) putTarget(ctx context.Context, c *call) (*answer, error) {
	if _, err := s.upstream(ctx, c, errNotFound()); err != nil {
		return nil, err
	}
	doc, err := c.document(schema.TargetForm())
	if err != nil {
		return nil, err
	}
	id, address := "", ""
	if by, value := c.targetBy(); by == "id" {
		id = value
	} else {
		address = value
	}
	t, err := s.writeTarget(ctx, c, func(all []hook.Target) (hook.Target, error) {
		stored, found := c.pick(all)
		if !found {
			return schema.NewTarget(doc, id, address)
		}
		t, err := schema.NewTarget(doc, stored.ID, address)
		t.CreatedAt, t.Changed = stored.CreatedAt, stored.Changed
		return t, err
	})
	if err != nil {
		return nil, err
	}
	return ok(schema.ShowTarget(t)), nil
}

func (s *Service) deleteTarget(ctx context.Context, c *call) (*answer, error) {
	t, err := s.target(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	_, err = s.o.Store.Write(ctx, hook.FeedUpstreams, []hook.Change{remove(hook.KindTarget, t.Key(), hook.ExpectAny)}, nil, s.now())
	if err != nil {
		return nil, fmt.Errorf("delete target %s: %w", t.Key(), err)
	}
	return noContent(), nil
}

// writeTarget stores what decide makes of an upstream's targets: a new target
// (Changed 0) or the next version of one. The upstream is written with it,
// unchanged: so all writes of one upstream's targets come one after another, no
// two of them take the last place or the same address, and none survives the
// upstream's deletion.
func (s *Service) writeTarget(ctx context.Context, c *call, decide func(all []hook.Target) (hook.Target, error)) (hook.Target, error) {
	for range maxTries {
		u, err := s.upstream(ctx, c, errNotFound())
		if err != nil {
			return hook.Target{}, err
		}
		all, err := s.targets(ctx, u.ID)
		if err != nil {
			return hook.Target{}, err
		}
		t, err := decide(all)
		if err != nil {
			return t, err
		}
		at := float64(s.now()) / 1000
		t.UpstreamID, t.UpdatedAt = u.ID, at
		if t.ID == "" {
			t.ID = s.o.NewID()
		}
		if t.Changed == 0 {
			t.CreatedAt = at
			if len(all) >= maxTargets {
				var faults schema.Faults
				faults.Add(fmt.Sprintf("an upstream has at most %d targets", maxTargets), "upstream")
				return t, faults.Err()
			}
		}
		for _, other := range all {
			if other.Target == t.Target && other.ID != t.ID {
				return t, targetTaken(t)
			}
		}
		rt, err := record.Target(t)
		if err != nil {
			return t, err
		}
		ru, err := record.Upstream(u)
		if err != nil {
			return t, err
		}
		_, err = s.o.Store.Write(ctx, hook.FeedUpstreams, []hook.Change{
			{Record: rt, Expect: t.Changed}, // 0 is hook.ExpectAbsent
			{Record: ru, Expect: u.Changed},
		}, nil, s.now())
		switch {
		case err == nil:
			return t, nil
		case errors.Is(err, hook.ErrStale):
		case errors.Is(err, hook.ErrExists):
			return t, idTaken(t.ID)
		default:
			return t, fmt.Errorf("write target %s: %w", t.Key(), err)
		}
	}
	return hook.Target{}, hook.ErrBusy
}

// targets returns all targets of an upstream, in the order of their ids.
func (s *Service) targets(ctx context.Context, upstreamID string) ([]hook.Target, error) {
	var all []hook.Target
	err := s.all(ctx, hook.KindTarget, upstreamID+"/", func(r hook.Record) (bool, error) {
		t, err := record.ToTarget(r)
		all = append(all, t)
		return true, err
	})
	return all, err
}

// target returns the target that the path names; absent is the error when its
// upstream has no such target.
func (s *Service) target(ctx context.Context, c *call, absent error) (hook.Target, error) {
	u, err := s.upstream(ctx, c, errNotFound())
	if err != nil {
		return hook.Target{}, err
	}
	all, err := s.targets(ctx, u.ID)
	if err != nil {
		return hook.Target{}, err
	}
	t, found := c.pick(all)
	if !found {
		return t, absent
	}
	return t, nil
}

// targetBy returns the field by which the path names a target, and its value:
// what looks like an id is one.
func (c *call) targetBy() (field, value string) {
	if id, valid := schema.UUID(c.params["target"]); valid {
		return "id", id
	}
	return "target", c.params["target"]
}

// pick returns the target that the path names.
func (c *call) pick(all []hook.Target) (hook.Target, bool) {
	by, value := c.targetBy()
	address, _ := schema.TargetAddress(value)
	for _, t := range all {
		if by == "id" && t.ID == value || by == "target" && t.Target == address {
			return t, true
		}
	}
	return hook.Target{}, false
}
