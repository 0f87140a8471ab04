package keyring_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/boltstore"
	"eventhooks/internal/hook"
	"eventhooks/internal/keyring"
	"eventhooks/internal/seal"
)

const arn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

// records is a store and the name of its table.
type records struct {
	*boltstore.Store
	table string
}

func (r records) ConfigTable() string { return r.table }

func open(t *testing.T) records {
	t.Helper()
	s, err := boltstore.Open(t.TempDir()+"/store", boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return records{s, "config"}
}

// kms is a key of KMS: what it wraps is the key turned around, behind what was
// to be authenticated beside it.
type kms struct {
	mu    sync.Mutex
	calls []string // operations
	// fail answers in its place, if it does not return nil.
	fail func(operation string) *http.Response
	// before happens before an operation is carried out, and not under mu.
	before func(operation string)
	made   byte
}

func (k *kms) Do(r *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "TrentService.")
	if k.before != nil {
		k.before(operation)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls = append(k.calls, operation)
	if k.fail != nil {
		if resp := k.fail(operation); resp != nil {
			return resp, nil
		}
	}
	var in struct {
		KeyId, KeySpec    string
		CiphertextBlob    []byte
		EncryptionContext map[string]string
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	if r.URL.Host != "kms.eu-central-1.amazonaws.com" || in.KeyId != arn {
		return answer(http.StatusBadRequest, map[string]any{"__type": "NotFoundException", "message": "no key " + in.KeyId + " at " + r.URL.Host}), nil
	}
	beside, err := json.Marshal(in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	beside = append(beside, 0)
	out := map[string]any{"KeyId": arn}
	switch operation {
	case "GenerateDataKey":
		if in.KeySpec != "AES_256" {
			return nil, fmt.Errorf("a key of %s", in.KeySpec)
		}
		k.made++
		secret := append(bytes.Repeat([]byte{k.made}, 31), 0xff)
		out["Plaintext"] = secret
		wrapped := slices.Clone(secret)
		slices.Reverse(wrapped)
		out["CiphertextBlob"] = append(beside, wrapped...)
	case "Decrypt":
		secret, ok := bytes.CutPrefix(in.CiphertextBlob, beside)
		if !ok {
			return answer(http.StatusBadRequest, map[string]any{"__type": "InvalidCiphertextException"}), nil
		}
		slices.Reverse(secret)
		out["Plaintext"] = secret
	}
	return answer(http.StatusOK, out), nil
}

func answer(status int, body any) *http.Response {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(raw))}
}

// asked returns the operations since the last call.
func (k *kms) asked() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	calls := k.calls
	k.calls = nil
	return calls
}

func (k *kms) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	if got := k.asked(); !slices.Equal(got, want) {
		t.Errorf("KMS was asked for %v; want %v", got, want)
	}
}

func ring(r keyring.Records, k *kms, edits ...func(*keyring.Options)) *keyring.Ring {
	o := keyring.Options{Records: r, KeyARN: arn, Suffix: "amazonaws.com", Makes: true, AWS: aws.Config{
		Region: "us-east-1", HTTPClient: k, // the key's own region counts
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
		}),
	}}
	for _, edit := range edits {
		edit(&o)
	}
	return keyring.New(o)
}

func reads(o *keyring.Options) { o.Makes = false }
func unset(o *keyring.Options) { o.KeyARN = "" }

var place = seal.Place{Kind: hook.KindHook, ID: "h1", Field: "data"}

// sealed seals a document under a ring's current key.
func sealed(t *testing.T, r *keyring.Ring) []byte {
	t.Helper()
	key, ok, err := r.Current(t.Context())
	if err != nil || !ok {
		t.Fatalf("Current = %v, %v; want a key", ok, err)
	}
	return key.Seal([]byte("document"), place)
}

// wantOpen wants a ring to open what was sealed.
func wantOpen(t *testing.T, r *keyring.Ring, doc []byte) {
	t.Helper()
	id, err := seal.KeyOf(doc)
	if err != nil {
		t.Fatal(err)
	}
	key, err := r.Key(t.Context(), id)
	if err != nil {
		t.Fatalf("Key = %v; want one", err)
	}
	if got, err := key.Open(doc, place); err != nil || string(got) != "document" {
		t.Errorf("Open = %s, %v; want the document", got, err)
	}
}

func TestRing(t *testing.T) {
	t.Run("the first writer makes a key, everybody else unwraps it, once", func(t *testing.T) {
		table, k := open(t), &kms{}
		first := ring(table, k)
		doc := sealed(t, first)
		wantOpen(t, first, sealed(t, first))
		k.wantAsked(t, "GenerateDataKey")
		for _, other := range []*keyring.Ring{ring(table, k), ring(table, k, reads)} {
			wantOpen(t, other, doc)
			wantOpen(t, other, sealed(t, other))
			k.wantAsked(t, "Decrypt")
		}
	})
	t.Run("the table holds no key that could be used", func(t *testing.T) {
		table, k := open(t), &kms{}
		sealed(t, ring(table, k))
		secret := append(bytes.Repeat([]byte{1}, 31), 0xff)
		all, _, err := table.List(t.Context(), hook.KindKey, "", "", 10, time.Now().UnixMilli())
		if err != nil || len(all) != 2 {
			t.Fatalf("keys = %v, %v; want a key, and which one is current", all, err)
		}
		for _, r := range all {
			if bytes.Contains(r.Data, secret) || bytes.Contains(r.Data, []byte(base64.StdEncoding.EncodeToString(secret))) {
				t.Errorf("%s = %s; the key shows", r.ID, r.Data)
			}
		}
	})
	t.Run("who makes none stores in the clear until there is one", func(t *testing.T) {
		table, k := open(t), &kms{}
		r := ring(table, k, reads)
		if key, ok, err := r.Current(t.Context()); key != nil || ok || err != nil {
			t.Errorf("Current = %v, %v, %v; want none", key, ok, err)
		}
		k.wantAsked(t)
		doc := sealed(t, ring(table, k))
		wantOpen(t, r, doc)
		wantOpen(t, r, sealed(t, r))
	})
	t.Run("two first writers have one key", func(t *testing.T) {
		table, k := open(t), &kms{}
		var begun atomic.Int32
		both := make(chan struct{})
		k.before = func(operation string) { // neither knows of the other when it makes its own
			if operation == "GenerateDataKey" && begun.Add(1) == 2 {
				close(both)
			}
			<-both
		}
		docs := make([][]byte, 2)
		rings := []*keyring.Ring{ring(table, k), ring(table, k)}
		var wg sync.WaitGroup
		for i, r := range rings {
			wg.Go(func() {
				key, ok, err := r.Current(t.Context())
				if err != nil || !ok {
					t.Errorf("Current = %v, %v; want a key", ok, err)
					return
				}
				docs[i] = key.Seal([]byte("document"), place)
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		a, _ := seal.KeyOf(docs[0])
		b, _ := seal.KeyOf(docs[1])
		if a != b {
			t.Errorf("keys = %v, %v; want one", a, b)
		}
		wantOpen(t, ring(table, k, reads), docs[0])
		wantOpen(t, ring(table, k, reads), docs[1])
	})
	t.Run("those who need a key at once wait for one answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			table, k := open(t), &kms{}
			doc := sealed(t, ring(table, k))
			k.asked()
			answers := make(chan struct{})
			k.before = func(string) { <-answers }
			r := ring(table, k, reads)
			id, _ := seal.KeyOf(doc)
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					if _, err := r.Key(t.Context(), id); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait() // one of them asks
			ctx, cancel := context.WithCancel(t.Context())
			impatient := make(chan error)
			go func() { _, err := r.Key(ctx, id); impatient <- err }()
			synctest.Wait()
			cancel()
			if err := <-impatient; !errors.Is(err, context.Canceled) {
				t.Errorf("who does not wait: %v; want that", err)
			}
			close(answers)
			wg.Wait()
			k.wantAsked(t, "Decrypt")
		})
	})
	t.Run("a failure is told, and not for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			table, k := open(t), &kms{}
			doc := sealed(t, ring(table, k))
			id, _ := seal.KeyOf(doc)
			r := ring(table, k, reads)
			k.asked()
			k.fail = func(string) *http.Response {
				return answer(http.StatusBadRequest, map[string]any{"__type": "ThrottlingException", "message": "Rate exceeded"})
			}
			if _, err := r.Key(t.Context(), id); err == nil || !strings.Contains(err.Error(), "ThrottlingException") || !strings.Contains(err.Error(), "Decrypt") || !strings.Contains(err.Error(), arn) {
				t.Errorf("Key = %v; want that KMS throttles, and which key it is", err)
			}
			k.wantAsked(t, "Decrypt", "Decrypt", "Decrypt")
			if _, _, err := r.Current(t.Context()); err == nil {
				t.Error("Current has a key that nobody could unwrap")
			}
			k.fail = nil
			wantOpen(t, r, doc)
		})
	})
	t.Run("no key is made while KMS fails, and nothing is named", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			table, k := open(t), &kms{}
			k.fail = func(string) *http.Response { return answer(http.StatusInternalServerError, nil) }
			r := ring(table, k)
			if key, ok, err := r.Current(t.Context()); err == nil || ok || key != nil {
				t.Errorf("Current = %v, %v, %v; want an error", key, ok, err)
			}
			if all, _, err := table.List(t.Context(), hook.KindKey, "", "", 10, time.Now().UnixMilli()); len(all) > 0 || err != nil {
				t.Errorf("keys = %v, %v; want none", all, err)
			}
			k.fail = nil
			sealed(t, r)
		})
	})
	t.Run("answers that are none are errors that quote nothing", func(t *testing.T) {
		for name, body := range map[string]any{
			"another shape": map[string]any{"Plaintext": "%%% secret"}, "a list": []string{"secret"},
			"a short key": map[string]any{"Plaintext": []byte("secret"), "CiphertextBlob": []byte("x")}, "nothing": map[string]any{},
		} {
			k := &kms{fail: func(string) *http.Response { return answer(http.StatusOK, body) }}
			key, ok, err := ring(open(t), k).Current(t.Context())
			if err == nil || ok || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: Current = %v, %v, %v; want an error that quotes nothing", name, key, ok, err)
			}
		}
	})
	t.Run("without a KMS key nothing is asked, and what is sealed names the setting", func(t *testing.T) {
		table, k := open(t), &kms{}
		doc := sealed(t, ring(table, k))
		k.asked()
		r := ring(table, k, unset)
		if _, ok, err := r.Current(t.Context()); ok || err != nil {
			t.Errorf("Current = %v, %v; want none", ok, err)
		}
		id, _ := seal.KeyOf(doc)
		if _, err := r.Key(t.Context(), id); !errors.Is(err, seal.ErrNoKey) {
			t.Errorf("Key = %v; want %v", err, seal.ErrNoKey)
		}
		k.wantAsked(t)
	})
	t.Run("a table that was restored under another name is read", func(t *testing.T) {
		table, k := open(t), &kms{}
		doc := sealed(t, ring(table, k))
		table.table = "config-restored"
		wantOpen(t, ring(table, k), doc)
	})
	t.Run("a wrapped key is good under its own id only", func(t *testing.T) {
		table, k := open(t), &kms{}
		a := sealed(t, ring(table, k))
		r := ring(table, k)
		if err := r.Choose(t.Context(), "new"); err != nil {
			t.Fatal(err)
		}
		b := sealed(t, r)
		from, _ := seal.KeyOf(a)
		to, _ := seal.KeyOf(b)
		rec, err := table.Get(t.Context(), hook.KindKey, from.String(), time.Now().UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		rec.ID = to.String()
		put(t, table, rec)
		if _, err := ring(table, k).Key(t.Context(), to); err == nil || !strings.Contains(err.Error(), "InvalidCiphertextException") {
			t.Errorf("Key = %v; want that KMS refuses it", err)
		}
	})
	t.Run("records of a later form, and damaged ones, are refused", func(t *testing.T) {
		for _, data := range []string{`{"v":2,"key":""}`, `{"v":1,"key":"zz"}`, `{`, `{"v":1,"key":"00000000000000000000000000000000"}`} {
			table, k := open(t), &kms{}
			put(t, table, hook.Record{Kind: hook.KindKey, ID: "current", Data: []byte(data)})
			if key, ok, err := ring(table, k).Current(t.Context()); err == nil || ok || errors.Is(err, hook.ErrNotFound) {
				t.Errorf("%s: Current = %v, %v, %v; want an error, and not that a document is missing", data, key, ok, err)
			}
			k.wantAsked(t)
		}
	})
}

func put(t *testing.T, table records, r hook.Record) {
	t.Helper()
	if _, err := table.Write(t.Context(), hook.FeedNone, []hook.Change{{Record: r, Expect: hook.ExpectAny}}, nil, time.Now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
}

func TestRing_Choose(t *testing.T) {
	table, k := open(t), &kms{}
	admin, deliver := ring(table, k), ring(table, k, reads)
	choose := func(t *testing.T, which string) {
		t.Helper()
		if err := admin.Choose(t.Context(), which); err != nil {
			t.Fatal(err)
		}
	}
	choose(t, "current")
	first := sealed(t, admin)
	choose(t, "current")
	again := sealed(t, deliver)
	choose(t, "new")
	second, elsewhere := sealed(t, admin), sealed(t, deliver)
	var ids []seal.ID
	for _, doc := range [][]byte{first, again, second, elsewhere} {
		id, err := seal.KeyOf(doc)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		wantOpen(t, admin, doc)
		wantOpen(t, ring(table, k, reads), doc)
	}
	if ids[0] != ids[1] || ids[2] != ids[3] || ids[0] == ids[2] {
		t.Errorf("keys = %v; want one, then another, in all rings at once", ids)
	}

	choose(t, "none")
	for name, r := range map[string]*keyring.Ring{"admin": admin, "deliver": deliver, "new": ring(table, k)} {
		if _, ok, err := r.Current(t.Context()); ok || err != nil {
			t.Errorf("Current of %s = %v, %v; want none", name, ok, err)
		}
		wantOpen(t, r, second)
	}
	choose(t, "current")
	if _, ok, err := admin.Current(t.Context()); ok || err != nil {
		t.Errorf("Current = %v, %v; want none until a new one is chosen", ok, err)
	}
	choose(t, "new")
	wantOpen(t, deliver, sealed(t, deliver))

	for name, r := range map[string]*keyring.Ring{"who only reads": deliver, "who has no KMS key": ring(table, k, unset)} {
		if err := r.Choose(t.Context(), "new"); err == nil || !strings.Contains(err.Error(), "KMS_KEY_ARN") {
			t.Errorf("%s chooses: %v; want an error", name, err)
		}
	}
	if err := admin.Choose(t.Context(), "other"); err == nil {
		t.Error("another word is no error")
	}
}

// What CloudTrail shows of a key is where it belongs.
func TestRing_encryptionContext(t *testing.T) {
	k := &kms{}
	var got map[string]string
	watch := doFunc(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		var in struct{ EncryptionContext map[string]string }
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		got = in.EncryptionContext
		r.Body = io.NopCloser(bytes.NewReader(body))
		return k.Do(r)
	})
	doc := sealed(t, ring(open(t), k, func(o *keyring.Options) { o.AWS.HTTPClient = watch }))
	id, _ := seal.KeyOf(doc)
	if diff := cmp.Diff(map[string]string{"eventhooks:table": "config", "eventhooks:key": id.String()}, got); diff != "" {
		t.Errorf("encryption context (-want +got):\n%s", diff)
	}
}

type doFunc func(*http.Request) (*http.Response, error)

func (f doFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }
