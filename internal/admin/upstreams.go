package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
	"eventhooks/internal/schema"
)

// maxChanges is how many changes one Write takes, with some room.
const maxChanges = 88

func (s *Service) listUpstreams(ctx context.Context, c *call) (*answer, error) {
	p, err := c.paging(isID)
	if err != nil {
		return nil, err
	}
	tagged, err := tagFilter(p.query)
	if err != nil {
		return nil, err
	}
	last, err := s.fill(ctx, p, hook.KindUpstream, "", p.query.Has("tags"), func(r hook.Record) (any, bool, error) {
		u, err := record.ToUpstream(r)
		return schema.ShowUpstream(u), err == nil && tagged(u.Tags), err
	})
	if err != nil {
		return nil, err
	}
	return p.answer("/upstreams", last, "tags"), nil
}

func (s *Service) getUpstream(ctx context.Context, c *call) (*answer, error) {
	u, err := s.upstream(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	return ok(schema.ShowUpstream(u)), nil
}

func (s *Service) createUpstream(ctx context.Context, c *call) (*answer, error) {
	doc, err := c.document(schema.UpstreamForm())
	if err != nil {
		return nil, err
	}
	u, err := schema.NewUpstream(doc, "", "", nil)
	if err != nil {
		return nil, err
	}
	u, err = s.insertUpstream(ctx, u)
	if err != nil {
		return nil, err
	}
	return created(schema.ShowUpstream(u)), nil
}

func (s *Service) patchUpstream(ctx context.Context, c *call) (*answer, error) {
	absent := noEntity(c.upstreamBy())
	u, err := s.upstream(ctx, c, absent)
	if err != nil {
		return nil, err
	}
	doc, err := c.document(schema.UpstreamForm())
	if err != nil {
		return nil, err
	}
	return s.changeUpstream(ctx, u, func(stored hook.Upstream) (hook.Upstream, error) {
		return schema.PatchUpstream(doc, stored)
	})
}

func (s *Service) putUpstream(ctx context.Context, c *call) (*answer, error) {
	doc, err := c.document(schema.UpstreamForm())
	if err != nil {
		return nil, err
	}
	id, name := "", ""
	if by, value := c.upstreamBy(); by == "id" {
		id = value
	} else {
		name = value
	}
	for range maxTries {
		u, err := s.upstream(ctx, c, errNotFound())
		if err == nil {
			a, err := s.changeUpstream(ctx, u, func(stored hook.Upstream) (hook.Upstream, error) {
				return schema.NewUpstream(doc, stored.ID, name, &stored)
			})
			if isAbsent(err) { // deleted meanwhile: then create it
				continue
			}
			return a, err
		}
		if !isAbsent(err) {
			return nil, err
		}
		u, err = schema.NewUpstream(doc, id, name, nil)
		if err != nil {
			return nil, err
		}
		u, err = s.insertUpstream(ctx, u)
		if r, refused := errors.AsType[*refusal](err); refused && r.status == http.StatusConflict && name != "" {
			continue // created meanwhile: then replace that one
		}
		if err != nil {
			return nil, err
		}
		return ok(schema.ShowUpstream(u)), nil
	}
	return nil, hook.ErrBusy
}

// deleteUpstream deletes the targets first, as many as one write takes, and
// the upstream with the last of them. Should we die in between, an upstream
// with fewer targets is left, which can be read and deleted again; the other
// order would leave targets that nobody can name, and that would be back if
// the id were used again.
func (s *Service) deleteUpstream(ctx context.Context, c *call) (*answer, error) {
	for range maxTries {
		u, err := s.upstream(ctx, c, errNotFound())
		if err != nil {
			return nil, err
		}
		targets, err := s.targets(ctx, u.ID)
		if err != nil {
			return nil, err
		}
		changes := make([]hook.Change, 0, len(targets)+2)
		for _, t := range targets {
			changes = append(changes, remove(hook.KindTarget, t.Key(), hook.ExpectAny))
		}
		for len(changes) > maxChanges-2 {
			if _, err := s.o.Store.Write(ctx, hook.FeedUpstreams, changes[:maxChanges], nil, s.now()); err != nil {
				return nil, fmt.Errorf("delete targets of upstream %s: %w", u.ID, err)
			}
			changes = changes[maxChanges:]
		}
		// A target that was added since touched the upstream: then all anew.
		changes = append(changes, remove(hook.KindUpstreamName, u.Name, hook.ExpectAny), remove(hook.KindUpstream, u.ID, u.Changed))
		_, err = s.o.Store.Write(ctx, hook.FeedUpstreams, changes, nil, s.now())
		if errors.Is(err, hook.ErrStale) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("delete upstream %s: %w", u.ID, err)
		}
		return noContent(), nil
	}
	return nil, hook.ErrBusy
}

// upstreamBy returns the field by which the path names an upstream, and its
// value: what looks like an id is one.
func (c *call) upstreamBy() (field, value string) {
	if id, valid := schema.UUID(c.params["upstream"]); valid {
		return "id", id
	}
	return "name", c.params["upstream"]
}

// upstream returns the upstream that the path names; absent is the error when
// there is none.
func (s *Service) upstream(ctx context.Context, c *call, absent error) (hook.Upstream, error) {
	by, value := c.upstreamBy()
	id := value
	if by == "name" {
		if !schema.IsUpstreamName(value) {
			return hook.Upstream{}, absent
		}
		r, err := s.o.Store.Get(ctx, hook.KindUpstreamName, value, s.now())
		if errors.Is(err, hook.ErrNotFound) {
			return hook.Upstream{}, absent
		}
		if err != nil {
			return hook.Upstream{}, fmt.Errorf("read upstream name: %w", err)
		}
		id = string(r.Data)
	}
	r, err := s.o.Store.Get(ctx, hook.KindUpstream, id, s.now())
	if errors.Is(err, hook.ErrNotFound) {
		return hook.Upstream{}, absent
	}
	if err != nil {
		return hook.Upstream{}, fmt.Errorf("read upstream %s: %w", id, err)
	}
	return record.ToUpstream(r)
}

// insertUpstream stores a new upstream together with the record that holds its
// name.
func (s *Service) insertUpstream(ctx context.Context, u hook.Upstream) (hook.Upstream, error) {
	at := s.o.Now()
	if u.ID == "" {
		u.ID = s.o.NewID()
	}
	u.CreatedAt, u.UpdatedAt = at.Unix(), at.Unix()
	r, err := record.Upstream(u)
	if err != nil {
		return u, err
	}
	u.Changed, err = s.o.Store.Write(ctx, hook.FeedUpstreams, []hook.Change{
		{Record: r, Expect: hook.ExpectAbsent}, holdName(u),
	}, nil, at.UnixMilli())
	return u, s.upstreamConflict(u, err)
}

// changeUpstream replaces a stored upstream by what decide makes of it, and
// does so anew when another change got in between.
func (s *Service) changeUpstream(ctx context.Context, stored hook.Upstream, decide func(hook.Upstream) (hook.Upstream, error)) (*answer, error) {
	for range maxTries {
		u, err := decide(stored)
		if err != nil {
			return nil, err
		}
		u.CreatedAt, u.UpdatedAt = stored.CreatedAt, s.o.Now().Unix()
		r, err := record.Upstream(u)
		if err != nil {
			return nil, err
		}
		changes := []hook.Change{{Record: r, Expect: stored.Changed}}
		if u.Name != stored.Name {
			changes = append(changes, holdName(u), remove(hook.KindUpstreamName, stored.Name, hook.ExpectAny))
		}
		u.Changed, err = s.o.Store.Write(ctx, hook.FeedUpstreams, changes, nil, s.now())
		if !errors.Is(err, hook.ErrStale) {
			if err := s.upstreamConflict(u, err); err != nil {
				return nil, err
			}
			return ok(schema.ShowUpstream(u)), nil
		}
		again, err := s.o.Store.Get(ctx, hook.KindUpstream, stored.ID, s.now())
		if errors.Is(err, hook.ErrNotFound) {
			return nil, noEntity("id", stored.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("read upstream %s: %w", stored.ID, err)
		}
		if stored, err = record.ToUpstream(again); err != nil {
			return nil, err
		}
	}
	return nil, hook.ErrBusy
}

// upstreamConflict says what the end of a write means whose first change is an
// upstream and whose second, if there is one, its name.
func (s *Service) upstreamConflict(u hook.Upstream, err error) error {
	if err == nil {
		return nil
	}
	if conflict, ok := errors.AsType[*hook.Conflict](err); ok && errors.Is(err, hook.ErrExists) {
		if conflict.Change == 1 {
			return nameTaken(u.Name)
		}
		return idTaken(u.ID)
	}
	return fmt.Errorf("write upstream %s: %w", u.ID, err)
}

func holdName(u hook.Upstream) hook.Change {
	return hook.Change{
		Record: hook.Record{Kind: hook.KindUpstreamName, ID: u.Name, Data: []byte(u.ID)}, Expect: hook.ExpectAbsent,
	}
}

func remove(kind, id string, expect int64) hook.Change {
	return hook.Change{Record: hook.Record{Kind: kind, ID: id, Deleted: true}, Expect: expect}
}
