// Package auth tells who sent a request: it finds the access token that a
// request carries. What the token allows is for the service to say.
//
// Tokens are known by the SHA-256 of their value; the value itself is stored
// nowhere, and never logged or returned.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/record"
)

// ErrUnauthorized: the request carries no token, or none that is good. Which of
// the two is not told: it would help only those who guess.
var ErrUnauthorized = errors.New("unauthorized")

// Store reads tokens.
type Store interface {
	// Get returns the record of that kind and id as it is at now (Unix
	// milliseconds), read consistently, or hook.ErrNotFound.
	Get(ctx context.Context, kind, id string, now int64) (hook.Record, error)
}

// What is remembered of tokens that were good: so long a revocation may take,
// and so many.
const (
	remember    = 60 * time.Second
	maxRemember = 1000
)

// maxValue bounds a token's value; what is longer is none.
const maxValue = 512

// Auth finds the tokens of requests. It is safe for concurrent use.
type Auth struct {
	store Store
	now   func() time.Time

	mu    sync.Mutex
	known map[string]known // by id
}

// known is a token that was read. Times are Unix milliseconds of the wall
// clock: a Lambda's monotonic clock stands still while it is frozen.
type known struct {
	token        hook.Token
	since, until int64
}

// New returns an Auth on a store. now nil means time.Now.
func New(store Store, now func() time.Time) *Auth {
	if now == nil {
		now = time.Now
	}
	return &Auth{store: store, now: now, known: make(map[string]known)}
}

// Authenticate returns the token that the request carries in `Authorization:
// Bearer`, else in `Kong-Admin-Token`, else in `apikey`: the first that is
// there is judged, and the others are not looked at. ErrUnauthorized when it is
// not a good one; another error when that could not be found out.
//
// A good token is remembered for up to 60 s, never beyond its end; one that is
// not known is looked for every time, so that a new token works at once.
func (a *Auth) Authenticate(ctx context.Context, h http.Header) (hook.Token, error) {
	value := credential(h)
	if value == "" || len(value) > maxValue {
		return hook.Token{}, ErrUnauthorized
	}
	id := Hash(value)
	now := a.now().UnixMilli()

	a.mu.Lock()
	k, ok := a.known[id]
	a.mu.Unlock()
	if ok && k.since <= now && now < k.until {
		return k.token, nil
	}

	r, err := a.store.Get(ctx, hook.KindToken, id, now)
	if errors.Is(err, hook.ErrNotFound) {
		a.Forget(id)
		return hook.Token{}, ErrUnauthorized
	}
	if err != nil {
		return hook.Token{}, fmt.Errorf("read token: %w", err)
	}
	t, err := record.ToToken(r)
	if err != nil {
		return hook.Token{}, fmt.Errorf("read token: %w", err)
	}
	if r.Deleted || t.Expired(now/1000) || subtle.ConstantTimeCompare([]byte(t.ID), []byte(id)) != 1 {
		a.Forget(id)
		return hook.Token{}, ErrUnauthorized
	}
	until := now + remember.Milliseconds()
	if t.ExpiresAt != 0 {
		until = min(until, t.ExpiresAt*1000)
	}
	a.learn(id, known{token: t, since: now, until: until})
	return t, nil
}

func (a *Auth) learn(id string, k known) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.known[id]; !ok && len(a.known) >= maxRemember {
		// Make room: first of what has passed, else of any one. A good token
		// that is forgotten costs one more read.
		for other, o := range a.known {
			if o.until <= k.since {
				delete(a.known, other)
			}
		}
		for other := range a.known {
			if len(a.known) < maxRemember {
				break
			}
			delete(a.known, other)
		}
	}
	a.known[id] = k
}

// Forget drops what is remembered of a token, so that one revoked in this very
// process is no longer good here. id is that of the token.
func (a *Auth) Forget(id string) {
	a.mu.Lock()
	delete(a.known, id)
	a.mu.Unlock()
}

// credential returns the value of the first credential that is there, "" for
// none. An Authorization of another scheme is not meant for us.
func credential(h http.Header) string {
	if scheme, value, ok := strings.Cut(h.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		if value = strings.TrimSpace(value); value != "" {
			return value
		}
	}
	if value := strings.TrimSpace(h.Get("Kong-Admin-Token")); value != "" {
		return value
	}
	return strings.TrimSpace(h.Get("Apikey"))
}

// Hash returns the id under which a token's value is known: its SHA-256 in
// lower-case hex.
func Hash(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// NewValue makes the value of a new token: "eh_" and 32 random bytes as
// base64url.
func NewValue() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return "eh_" + base64.RawURLEncoding.EncodeToString(b[:])
}
