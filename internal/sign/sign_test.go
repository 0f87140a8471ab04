package sign_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"eventhooks/internal/hook"
	"eventhooks/internal/sign"
)

type vectors struct {
	Standard []struct {
		Name, Secret, ID, Body, Signature string
		Timestamp                         int64
	}
	Kong []struct{ Name, Secret, Algorithm, Body, Signature string }
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Standard) == 0 || len(v.Kong) == 0 {
		t.Fatal("testdata/vectors.json holds no vectors")
	}
	return v
}

func TestStandard_vectors(t *testing.T) {
	for _, v := range readVectors(t).Standard {
		t.Run(v.Name, func(t *testing.T) {
			secret, at := hook.NewSecret(v.Secret), time.Unix(v.Timestamp, 999_999_999)
			got := sign.Standard(secret, v.ID, at, []byte(v.Body))
			if got != v.Signature {
				t.Errorf("Standard = %q; want %q", got, v.Signature)
			}
			h := http.Header{}
			h.Set("webhook-id", v.ID)
			h.Set("webhook-timestamp", strconv.FormatInt(v.Timestamp, 10))
			h.Set("webhook-signature", v.Signature)
			if err := sign.Verify(secret, h, []byte(v.Body), at); err != nil {
				t.Errorf("Verify: %v", err)
			}
		})
	}
}

func TestKong_vectors(t *testing.T) {
	for _, v := range readVectors(t).Kong {
		t.Run(v.Name, func(t *testing.T) {
			secret := hook.NewSecret(v.Secret)
			if got := sign.Kong(secret, v.Algorithm, []byte(v.Body)); got != v.Signature {
				t.Errorf("Kong = %q; want %q", got, v.Signature)
			}
			if err := sign.Verify(secret, http.Header{"X-Kong-Signature": {v.Signature}}, []byte(v.Body), time.Time{}); err != nil {
				t.Errorf("Verify: %v", err)
			}
		})
	}
}

func TestKong_unnamedAlgorithmIsSHA256(t *testing.T) {
	if got := sign.Kong(hook.NewSecret("s"), "", nil); !strings.HasPrefix(got, "sha256=") {
		t.Errorf("Kong = %q; want sha256=…", got)
	}
}

func TestEmptyKeyNeverSigns(t *testing.T) {
	now := time.Unix(1795543200, 0)
	for _, s := range []string{"", "whsec_", "whsec_===="} {
		secret := hook.NewSecret(s)
		if got := sign.Standard(secret, "id", now, []byte("body")); got != "" {
			t.Errorf("Standard with secret %q = %q; want no signature", s, got)
		}
	}
	if got := sign.Kong(hook.Secret{}, hook.SignatureSHA256, nil); got != "" {
		t.Errorf("Kong without a secret = %q; want no signature", got)
	}
	// What an attacker would compute with an empty key.
	h := http.Header{"Webhook-Id": {"id"}, "Webhook-Timestamp": {"1795543200"}, "Webhook-Signature": {"v1,AAAA"}, "X-Kong-Signature": {"sha256=00"}}
	if err := sign.Verify(hook.Secret{}, h, nil, now); !errors.Is(err, sign.ErrNoSecret) {
		t.Errorf("Verify without a secret: %v; want ErrNoSecret", err)
	}
	if err := sign.VerifyKong(hook.Secret{}, h, nil); !errors.Is(err, sign.ErrNoSecret) {
		t.Errorf("VerifyKong without a secret: %v; want ErrNoSecret", err)
	}
	if err := sign.Verify(hook.Secret{}, http.Header{}, nil, now); !errors.Is(err, sign.ErrNoSecret) {
		t.Errorf("Verify of an unsigned request without a secret: %v; want ErrNoSecret", err)
	}
}

func TestCheckSecret(t *testing.T) {
	for secret, fine := range map[string]bool{
		"": true, "topsecret": true, "wh": true, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": true, "whsec_w6k=": true, "whsec_w6k": true,
		"whsec_": false, "whsec_not base64!": false, "whsec_w": false,
	} {
		if got := sign.CheckSecret(hook.NewSecret(secret)); (got == "") != fine {
			t.Errorf("CheckSecret(%q) = %q; want fine = %v", secret, got, fine)
		}
		if got := sign.CheckSecret(hook.NewSecret(secret)); len(secret) > 10 && strings.Contains(got, secret[6:]) {
			t.Errorf("CheckSecret shows the secret: %q", got)
		}
	}
}

func TestVerify(t *testing.T) {
	secret, other := hook.NewSecret("topsecret"), hook.NewSecret("whsec_b3RoZXI=")
	now := time.Unix(1795543200, 0)
	body := []byte(`{"source":"crud"}`)
	standard := func(s hook.Secret, at time.Time) http.Header {
		return http.Header{
			"Webhook-Id":        {"e_h"},
			"Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
			"Webhook-Signature": {sign.Standard(s, "e_h", at, body)},
		}
	}
	with := func(h http.Header, name, value string) http.Header {
		h = h.Clone()
		h.Set(name, value)
		return h
	}
	good := standard(secret, now)
	kong := http.Header{"X-Kong-Signature": {sign.Kong(secret, hook.SignatureSHA256, body)}}
	for _, c := range []struct {
		name   string
		header http.Header
		want   error
	}{
		{"a right signature", good, nil},
		{"at the edge of the tolerance, early", standard(secret, now.Add(-sign.Tolerance)), nil},
		{"at the edge of the tolerance, late", standard(secret, now.Add(sign.Tolerance)), nil},
		{"too old", standard(secret, now.Add(-sign.Tolerance-time.Second)), sign.ErrTimestamp},
		{"too new", standard(secret, now.Add(sign.Tolerance+time.Second)), sign.ErrTimestamp},
		{"a timestamp that is no number", with(good, "Webhook-Timestamp", "now"), sign.ErrTimestamp},
		{"a timestamp beyond all bounds", with(good, "Webhook-Timestamp", "99999999999999999999"), sign.ErrTimestamp},
		{"another timestamp than the signed one", with(good, "Webhook-Timestamp", strconv.FormatInt(now.Unix()+1, 10)), sign.ErrMismatch},
		{"another id", with(good, "Webhook-Id", "e_other"), sign.ErrMismatch},
		{"another secret", standard(other, now), sign.ErrMismatch},
		{"one of two signatures is ours", with(good, "Webhook-Signature", standard(other, now).Get("Webhook-Signature")+" "+good.Get("Webhook-Signature")), nil},
		{"a version that is not known, and ours", with(good, "Webhook-Signature", "v1a,xyz "+good.Get("Webhook-Signature")), nil},
		{"only a version that is not known", with(good, "Webhook-Signature", "v2,"+good.Get("Webhook-Signature")[3:]), sign.ErrMismatch},
		{"a signature that is no base64", with(good, "Webhook-Signature", "v1,!!"), sign.ErrMismatch},
		{"without an id", http.Header{"Webhook-Timestamp": good["Webhook-Timestamp"], "Webhook-Signature": good["Webhook-Signature"]}, sign.ErrUnsigned},
		{"no signature", http.Header{}, sign.ErrUnsigned},
		{"Kong's alone", kong, nil},
		{"Kong's in SHA-1", http.Header{"X-Kong-Signature": {sign.Kong(secret, hook.SignatureSHA1, body)}}, nil},
		{"Kong's of another secret", http.Header{"X-Kong-Signature": {sign.Kong(other, hook.SignatureSHA256, body)}}, sign.ErrMismatch},
		{"Kong's with an algorithm we do not know", http.Header{"X-Kong-Signature": {"md5=00"}}, sign.ErrMismatch},
		{"Kong's without an algorithm", http.Header{"X-Kong-Signature": {"abcdef"}}, sign.ErrMismatch},
		{"Kong's that is no hex", http.Header{"X-Kong-Signature": {"sha256=xyz"}}, sign.ErrMismatch},
		{"Kong's cut short", http.Header{"X-Kong-Signature": {kong.Get("X-Kong-Signature")[:20]}}, sign.ErrMismatch},
		{"both right", with(good, "X-Kong-Signature", kong.Get("X-Kong-Signature")), nil},
		{"Kong's wrong beside a right one", with(good, "X-Kong-Signature", "sha256=00"), sign.ErrMismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := sign.Verify(secret, c.header, body, now); !errors.Is(err, c.want) {
				t.Errorf("Verify: %v; want %v", err, c.want)
			}
		})
	}
	if err := sign.Verify(secret, good, append(body, ' '), now); !errors.Is(err, sign.ErrMismatch) {
		t.Errorf("Verify of another body: %v; want ErrMismatch", err)
	}
}

// FuzzVerify: no header a stranger sends panics or passes.
func FuzzVerify(f *testing.F) {
	f.Add("id", "1795543200", "v1,AAAA", "sha256=00")
	f.Add("", "-1", " v1, ", "=")
	f.Fuzz(func(t *testing.T, id, seconds, standard, kong string) {
		h := http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {seconds}, "Webhook-Signature": {standard}, "X-Kong-Signature": {kong}}
		if err := sign.Verify(hook.NewSecret("a secret nobody guesses"), h, nil, time.Unix(1795543200, 0)); err == nil {
			t.Error("Verify let a made-up signature pass")
		}
	})
}

func BenchmarkSign(b *testing.B) {
	secret, body := hook.NewSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), make([]byte, 1<<10)
	now := time.Unix(1795543200, 0)
	b.ReportAllocs()
	for b.Loop() {
		_ = sign.Standard(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", now, body)
		_ = sign.Kong(secret, hook.SignatureSHA256, body)
	}
}
