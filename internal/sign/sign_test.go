package sign_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
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
	Kong     []struct{ Name, Secret, Algorithm, Body, Signature string }
	Rotation []struct {
		Name, Secret, ID, Body, Signature string
		OldSecret                         string `json:"old_secret"`
		Timestamp                         int64
		KongSignature                     string `json:"kong_signature"`
	}
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
	if len(v.Standard) == 0 || len(v.Kong) == 0 || len(v.Rotation) == 0 {
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

// TestRotation_vectors: what a receiver gets while the sender replaces its
// secret, and that either secret verifies it.
func TestRotation_vectors(t *testing.T) {
	for _, v := range readVectors(t).Rotation {
		t.Run(v.Name, func(t *testing.T) {
			secret, old := hook.NewSecret(v.Secret), hook.NewSecret(v.OldSecret)
			at, body := time.Unix(v.Timestamp, 0), []byte(v.Body)
			if got := sign.Standard(secret, v.ID, at, body, old); got != v.Signature {
				t.Errorf("Standard = %q; want %q", got, v.Signature)
			}
			if got := sign.Kong(old, hook.SignatureSHA256, body); got != v.KongSignature {
				t.Errorf("Kong = %q; want %q", got, v.KongSignature)
			}
			h := http.Header{}
			h.Set("webhook-id", v.ID)
			h.Set("webhook-timestamp", strconv.FormatInt(v.Timestamp, 10))
			h.Set("webhook-signature", v.Signature)
			h.Set("x-kong-signature", v.KongSignature)
			for name, s := range map[string]hook.Secret{"the new secret": secret, "the old secret": old} {
				if err := sign.Verify(s, h, body, at); err != nil {
					t.Errorf("Verify with %s: %v", name, err)
				}
			}
			if err := sign.Verify(hook.NewSecret("another"), h, body, at); !errors.Is(err, sign.ErrMismatch) {
				t.Errorf("Verify with another secret: %v; want ErrMismatch", err)
			}
		})
	}
}

func TestStandard_keysThatAreEmptyAreLeftOut(t *testing.T) {
	at, body, full, empty := time.Unix(1795543200, 0), []byte("body"), hook.NewSecret("s"), hook.NewSecret("whsec_")
	alone := sign.Standard(full, "id", at, body)
	for name, got := range map[string]string{
		"no old secret":        sign.Standard(full, "id", at, body, hook.Secret{}),
		"an old one of no use": sign.Standard(full, "id", at, body, empty),
		"a new one of no use":  sign.Standard(empty, "id", at, body, full),
	} {
		if got != alone {
			t.Errorf("%s: Standard = %q; want %q", name, got, alone)
		}
	}
	if got := sign.Standard(hook.Secret{}, "id", at, body, hook.Secret{}, empty); got != "" {
		t.Errorf("Standard without a key = %q; want no signature", got)
	}
}

// TestGeneratedSecrets: "whsec_" and the base64 of random bytes is a secret
// whose key are those bytes, whatever they are.
func TestGeneratedSecrets(t *testing.T) {
	for _, b := range []byte{0x00, 0x5a, 0xfb, 0xff} { // 0xfb and 0xff become + and /
		random := bytes.Repeat([]byte{b}, 32)
		secret := hook.NewSecret(sign.Prefix + base64.StdEncoding.EncodeToString(random))
		if fault := sign.CheckSecret(secret); fault != "" {
			t.Errorf("CheckSecret of 32 bytes of %x: %s", b, fault)
		}
		at := time.Unix(1795543200, 0)
		m := hmac.New(sha256.New, random)
		m.Write([]byte("id.1795543200.body"))
		want := "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
		if got := sign.Standard(secret, "id", at, []byte("body")); got != want {
			t.Errorf("Standard with 32 bytes of %x = %q; want %q", b, got, want)
		}
	}
	urls := hook.NewSecret(sign.Prefix + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, 32)))
	if sign.CheckSecret(urls) == "" {
		t.Error("CheckSecret lets the base64 of URLs pass, which receivers' libraries do not read")
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
		{"Kong's of another secret beside a right one, as in a rotation", with(good, "X-Kong-Signature", sign.Kong(other, hook.SignatureSHA256, body)), nil},
		{"Kong's right beside a wrong one", with(standard(other, now), "X-Kong-Signature", kong.Get("X-Kong-Signature")), sign.ErrMismatch},
		{"Kong's right beside one that is too old", with(standard(secret, now.Add(-sign.Tolerance-time.Second)), "X-Kong-Signature", kong.Get("X-Kong-Signature")), sign.ErrTimestamp},
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
