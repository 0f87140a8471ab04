package sign

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"eventhooks/internal/hook"
)

// Why a request is not to be trusted. Verify's errors are these.
var (
	// ErrUnsigned: the request carries no signature, or only parts of one.
	ErrUnsigned = errors.New("the request is not signed")
	// ErrMismatch: a signature is there and is not that of this body.
	ErrMismatch = errors.New("the signature is not that of this body and secret")
	// ErrTimestamp: the signature's time is too far from now: an old request
	// sent again, or a wrong clock.
	ErrTimestamp = errors.New("the signature's timestamp is too old or too new")
	// ErrNoSecret: there is no secret to verify with.
	ErrNoSecret = errors.New("no secret to verify with")
)

// Tolerance is how far a signature's timestamp may be from the receiver's
// clock, either way: what Standard Webhooks recommends.
const Tolerance = 5 * time.Minute

// Verify reports whether a received request is signed with the secret.
// webhook-signature decides where there is one, of whose signatures one must be
// right: it covers the delivery's id and time, and while the sender replaces
// its secret it carries the signatures of both, when x-kong-signature has room
// for that of the old one only. Without a webhook-signature, x-kong-signature
// must be right. body is the request's body as it was received, before any
// parsing.
func Verify(secret hook.Secret, header http.Header, body []byte, now time.Time) error {
	switch {
	case secret.IsZero():
		return ErrNoSecret
	case header.Get(HeaderStandard) != "":
		return VerifyStandard(secret, header, body, now)
	case header.Get(HeaderKong) != "":
		return VerifyKong(secret, header, body)
	}
	return ErrUnsigned
}

// VerifyStandard checks webhook-signature, of which one of several
// space-separated values must match (a sender that changes its secret signs
// with both), and that webhook-timestamp is within Tolerance of now.
func VerifyStandard(secret hook.Secret, header http.Header, body []byte, now time.Time) error {
	key := standardKey(secret)
	if len(key) == 0 {
		return ErrNoSecret
	}
	id, seconds, values := header.Get(HeaderID), header.Get(HeaderTimestamp), header.Get(HeaderStandard)
	if id == "" || seconds == "" || values == "" {
		return ErrUnsigned
	}
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return ErrTimestamp
	}
	const tolerance = int64(Tolerance / time.Second)
	if n := now.Unix(); at < n-tolerance || at > n+tolerance {
		return ErrTimestamp
	}
	want := standardSum(key, id, seconds, body)
	for value := range strings.FieldsSeq(values) {
		encoded, ok := strings.CutPrefix(value, versionOne)
		if !ok {
			continue // a version that we do not know
		}
		if got, err := base64.StdEncoding.DecodeString(encoded); err == nil && hmac.Equal(got, want) {
			return nil
		}
	}
	return ErrMismatch
}

// VerifyKong checks x-kong-signature in either of its two algorithms. It says
// nothing about when the request was made: Kong signs the body alone.
func VerifyKong(secret hook.Secret, header http.Header, body []byte) error {
	if secret.IsZero() {
		return ErrNoSecret
	}
	value := header.Get(HeaderKong)
	if value == "" {
		return ErrUnsigned
	}
	algorithm, encoded, ok := strings.Cut(value, "=")
	if !ok || (algorithm != hook.SignatureSHA256 && algorithm != hook.SignatureSHA1) {
		return ErrMismatch
	}
	got, err := hex.DecodeString(encoded)
	if err != nil || !hmac.Equal(got, kongSum(secret, algorithm, body)) {
		return ErrMismatch
	}
	return nil
}
