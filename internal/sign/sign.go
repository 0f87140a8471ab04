// Package sign makes and checks the signatures of a request body: that of
// Standard Webhooks (header webhook-signature) and that of Kong (header
// x-kong-signature). Both are HMACs over the exact bytes that are sent.
//
// It does not choose secrets, read requests or know which hook a request is
// for. Vectors that other languages can read are in testdata/vectors.json.
package sign

import (
	"crypto/hmac"
	"crypto/sha1" // Kong before 3.14 signs with it; as an HMAC it is unbroken
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strconv"
	"strings"
	"time"

	"eventhooks/internal/hook"
)

// Names of the headers, in canonical form.
const (
	HeaderID        = "Webhook-Id"        // equal on every attempt of a delivery
	HeaderTimestamp = "Webhook-Timestamp" // Unix seconds of the attempt
	HeaderStandard  = "Webhook-Signature"
	HeaderKong      = "X-Kong-Signature"
)

// Prefix marks a secret whose key is written in base64, as Standard Webhooks
// has it.
const Prefix = "whsec_"

// Standard returns the value of webhook-signature, "v1,<base64>": HMAC-SHA256
// of "<id>.<at in Unix seconds>.<body>" (Standard Webhooks 1.0). The key is
// what the base64 after "whsec_" says; the secret's own bytes when it has no
// such prefix, or no base64 after it. An empty key signs nothing: "".
//
// Each of old signs too, "v1,<base64> v1,<base64>": while a secret is being
// replaced, receivers may know either.
func Standard(secret hook.Secret, id string, at time.Time, body []byte, old ...hook.Secret) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	value := standardValue(secret, id, seconds, body)
	for _, s := range old {
		value = strings.TrimSpace(value + " " + standardValue(s, id, seconds, body))
	}
	return value
}

func standardValue(secret hook.Secret, id, seconds string, body []byte) string {
	key := standardKey(secret)
	if len(key) == 0 {
		return ""
	}
	return versionOne + base64.StdEncoding.EncodeToString(standardSum(key, id, seconds, body))
}

// Kong returns the value of x-kong-signature: "sha256=<hex>", or "sha1=<hex>"
// when algorithm is hook.SignatureSHA1, as Kong signed before 3.14. The key is
// the secret's bytes, whatever its prefix. An empty key signs nothing: "". The
// header has room for one signature.
func Kong(secret hook.Secret, algorithm string, body []byte) string {
	if secret.IsZero() {
		return ""
	}
	if algorithm != hook.SignatureSHA1 {
		algorithm = hook.SignatureSHA256
	}
	return algorithm + "=" + hex.EncodeToString(kongSum(secret, algorithm, body))
}

// CheckSecret reports why a secret is no use as a key for Standard: it begins
// with "whsec_", so a receiver's library will take the rest for base64, and it
// is not, or it is empty. "" when it is fine.
func CheckSecret(secret hook.Secret) (fault string) {
	rest, ok := strings.CutPrefix(secret.Reveal(), Prefix)
	if !ok {
		return ""
	}
	if key, ok := decodeKey(rest); !ok || len(key) == 0 {
		return "what follows " + Prefix + " must be base64"
	}
	return ""
}

const versionOne = "v1,"

func standardKey(secret hook.Secret) []byte {
	s := secret.Reveal()
	if rest, ok := strings.CutPrefix(s, Prefix); ok {
		if key, ok := decodeKey(rest); ok {
			return key
		}
	}
	return []byte(s)
}

// decodeKey reads base64 with or without padding: generators differ in it,
// libraries for receivers take both.
func decodeKey(s string) ([]byte, bool) {
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	return key, err == nil
}

func standardSum(key []byte, id, seconds string, body []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(id + "." + seconds + "."))
	m.Write(body)
	return m.Sum(nil)
}

func kongSum(secret hook.Secret, algorithm string, body []byte) []byte {
	var algo func() hash.Hash = sha256.New
	if algorithm == hook.SignatureSHA1 {
		algo = sha1.New
	}
	m := hmac.New(algo, []byte(secret.Reveal()))
	m.Write(body)
	return m.Sum(nil)
}
