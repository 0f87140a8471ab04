package admin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/schema"
)

// randomSecret returns a secret as Standard Webhooks has it.
func randomSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return "whsec_" + base64.StdEncoding.EncodeToString(b[:])
}

// rotateSecret gives a hook a new secret, and the one before it a grace in
// which both sign; or, when the body says so, ends that grace.
//
// The answer is the only place where the new secret is ever seen, and it may be
// lost. Who asks again is refused while the grace lasts: another rotation would
// put the secret that nobody saw in the place of the one that the receivers
// know, and end their grace without a word. They go on accepting what is sent,
// until the grace ends; a secret that is chosen, told to them and then written
// to the hook mends it.
func (s *Service) rotateSecret(ctx context.Context, c *call) (*answer, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	stored, err := s.hook(ctx, c, errNotFound())
	if err != nil {
		return nil, err
	}
	doc, err := c.document(schema.RotationForm())
	if err != nil {
		return nil, err
	}
	r, err := schema.NewRotation(doc)
	if err != nil {
		return nil, err
	}
	if !stored.Calls() {
		return nil, hasNoSecret(stored)
	}
	secret, until := "", int64(0)
	if !r.Finish {
		secret = s.o.NewSecret()
	}
	if r.Finish && stored.Config.OldSecretUntil == 0 && stored.Config.OldSecret.IsZero() {
		if !c.ifMatch(stored) {
			return nil, changedMeanwhile()
		}
		return ok(schema.ShowRotation("", 0)).with("ETag", etag(stored)), nil // nothing to end, and nothing to write
	}
	h, err := s.replace(ctx, c, stored, errNotFound(), func(h hook.Hook) (hook.Hook, error) {
		now := s.o.Now().Unix()
		if !h.Calls() { // it became one meanwhile
			return h, hasNoSecret(h)
		}
		if !r.Finish {
			if _, rotating := h.Config.Rotating(now); rotating {
				return h, graceLasts(h)
			}
		}
		until = 0
		old := h.Config.Secret
		h.Config.OldSecret, h.Config.OldSecretUntil = hook.Secret{}, 0
		if r.Finish {
			return h, nil
		}
		h.Config.Secret = hook.NewSecret(secret)
		if !old.IsZero() {
			until = now + hook.RotationGrace
			h.Config.OldSecret, h.Config.OldSecretUntil = old, until
		}
		return h, nil
	})
	if err != nil {
		return nil, err
	}
	return ok(schema.ShowRotation(secret, until)).with("ETag", etag(h)), nil
}

func hasNoSecret(h hook.Hook) error {
	return refuse(http.StatusBadRequest, "a %s hook has no secret", h.Handler)
}

// graceLasts refuses a rotation. To finish is right for who has the last one's
// answer, and wrong for who lost it.
func graceLasts(h hook.Hook) error {
	until := time.Unix(h.Config.OldSecretUntil, 0).UTC().Format(time.RFC3339)
	return refuse(http.StatusConflict, "the last rotation's grace lasts until %s: finish it first; if its answer was lost, "+
		"give the receiver a secret of your own choice and write that to config.secret instead", until)
}
