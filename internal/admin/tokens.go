package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"eventhooks/internal/auth"
	"eventhooks/internal/hook"
	"eventhooks/internal/record"
	"eventhooks/internal/schema"
)

// tokenIDLen is the length of a token's id: SHA-256 in hex.
const tokenIDLen = 64

func isTokenID(s string) bool {
	return len(s) == tokenIDLen && strings.Trim(s, "0123456789abcdef") == ""
}

func (s *Service) listTokens(ctx context.Context, c *call) (*answer, error) {
	p, err := c.paging(isTokenID)
	if err != nil {
		return nil, err
	}
	var uses map[string]int64
	p.ahead = func(records []hook.Record) (err error) {
		ids := make([]string, len(records))
		for i, r := range records {
			ids[i] = r.ID
		}
		if uses, err = s.o.Store.TokenUses(ctx, ids, s.now()); err != nil {
			return fmt.Errorf("read uses of tokens: %w", err)
		}
		return nil
	}
	last, err := s.fill(ctx, p, hook.KindToken, "", false, func(r hook.Record) (any, bool, error) {
		t, err := record.ToToken(r)
		return schema.ShowToken(t, uses[r.ID]), err == nil, err
	})
	if err != nil {
		return nil, err
	}
	return p.answer("/tokens", last), nil
}

func (s *Service) createToken(ctx context.Context, c *call) (*answer, error) {
	doc, err := c.document(schema.TokenForm())
	if err != nil {
		return nil, err
	}
	t, err := s.mint(ctx, doc)
	if err != nil {
		return nil, err
	}
	return created(t), nil
}

// MintToken makes a token for whoever may invoke the admin function directly:
// create is the body of POST /tokens, and the result its answer. An error says
// all that is wrong with it.
func (s *Service) MintToken(ctx context.Context, create json.RawMessage) (any, error) {
	t, err := s.mint(ctx, create)
	if err != nil {
		return nil, fmt.Errorf("create token: %w", err)
	}
	return t, nil
}

func (s *Service) mint(ctx context.Context, doc []byte) (schema.ShownToken, error) {
	now := s.now()
	t, err := schema.NewToken(doc, now/1000)
	if err != nil {
		return schema.ShownToken{}, err
	}
	value := auth.NewValue()
	t.ID = auth.Hash(value)
	r, err := record.Token(t)
	if err != nil {
		return schema.ShownToken{}, err
	}
	_, err = s.o.Store.Write(ctx, hook.FeedNone, []hook.Change{{Record: r, Expect: hook.ExpectAbsent}}, nil, now)
	if err != nil {
		return schema.ShownToken{}, fmt.Errorf("write token: %w", err)
	}
	shown := schema.ShowToken(t, 0)
	shown.Token = value
	return shown, nil
}

func (s *Service) deleteToken(ctx context.Context, c *call) (*answer, error) {
	id := c.params["id"]
	if !isTokenID(id) {
		return nil, errNotFound()
	}
	_, err := s.o.Store.Get(ctx, hook.KindToken, id, s.now())
	if errors.Is(err, hook.ErrNotFound) {
		return nil, errNotFound()
	}
	if err != nil {
		return nil, fmt.Errorf("read token: %w", err)
	}
	_, err = s.o.Store.Write(ctx, hook.FeedNone, []hook.Change{{
		Record: hook.Record{Kind: hook.KindToken, ID: id, Deleted: true}, Expect: hook.ExpectAny,
	}}, nil, s.now())
	if err != nil {
		return nil, fmt.Errorf("delete token: %w", err)
	}
	s.o.Auth.Forget(id)
	return noContent(), nil
}
