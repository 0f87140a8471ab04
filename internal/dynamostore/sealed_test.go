package dynamostore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventhooks/internal/hook"
	"eventhooks/internal/seal"
)

// keys are Keys that are not wrapped. The zero value stores in the clear.
type keys struct {
	made    map[seal.ID]*seal.Key
	current *seal.Key
	err     error // of every call, if there is one
}

func (k *keys) Current(context.Context) (*seal.Key, bool, error) {
	return k.current, k.current != nil, k.err
}

func (k *keys) Key(_ context.Context, id seal.ID) (*seal.Key, error) {
	if key := k.made[id]; key != nil && k.err == nil {
		return key, nil
	}
	return nil, errors.Join(k.err, fmt.Errorf("there is no key %s", id))
}

func (k *keys) Choose(_ context.Context, which string) error {
	switch {
	case k.err != nil || (which == "current" && k.current != nil):
		return k.err
	case which == "none":
		k.current = nil
		return nil
	}
	id := seal.ID{byte(len(k.made) + 1)}
	key, err := seal.NewKey(id, bytes.Repeat(id[:1], seal.KeySize))
	if err != nil {
		return err
	}
	if k.made == nil {
		k.made = map[seal.ID]*seal.Key{}
	}
	k.made[id], k.current = key, key
	return nil
}

// table is a ConfigTable that holds what is put there, and answers all that
// configuration asks for.
type table struct {
	items map[string]map[string]any // attributes as they go over the wire
	puts  int
	// beforePut happens before the next put is judged.
	beforePut func()
}

func (tb *table) store() *Store {
	return scripted(func(op string, in map[string]any) (int, any) {
		switch op {
		case "GetItem":
			return 200, map[string]any{"Item": tb.items[wireID(in["Key"])]}
		case "Query":
			var its []any
			for _, id := range sortedKeys(tb.items) {
				it := tb.items[id]
				of := in["ExpressionAttributeValues"].(map[string]any)[":kind"]
				if cmp.Equal(it["kind"], of) && it["n"] == nil {
					its = append(its, it)
				}
			}
			return 200, map[string]any{"Items": its}
		case "PutItem":
			if tb.beforePut != nil {
				tb.beforePut()
				tb.beforePut = nil
			}
			it := in["Item"].(map[string]any)
			if in["ConditionExpression"] == "w = :w" && !cmp.Equal(tb.items[wireID(it)]["w"], in["ExpressionAttributeValues"].(map[string]any)[":w"]) {
				return exception("ConditionalCheckFailedException", nil)
			}
			tb.puts++
			tb.items[wireID(it)] = it
			return 200, map[string]any{}
		case "TransactWriteItems":
			for _, w := range in["TransactItems"].([]any) {
				it := w.(map[string]any)["Put"].(map[string]any)["Item"].(map[string]any)
				tb.items[wireID(it)] = it
			}
			return 200, map[string]any{}
		}
		return exception("UnknownOperationException", nil)
	})
}

func wireID(item any) string {
	it := item.(map[string]any)
	return fmt.Sprint(it["kind"], it["id"])
}

func (tb *table) item(kind, id string) map[string]any {
	return tb.items[wireID(map[string]any{"kind": map[string]any{"S": kind}, "id": map[string]any{"S": id}})]
}

// text is everything that the table holds, as it goes over the wire, with what
// is binary decoded.
func (tb *table) text(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, it := range tb.items {
		for name, v := range it {
			value := v.(map[string]any)
			if raw, ok := value["B"]; ok {
				var plain []byte
				if err := json.Unmarshal(fmt.Appendf(nil, "%q", raw), &plain); err != nil {
					t.Fatal(err)
				}
				value = map[string]any{"B": string(plain)}
			}
			fmt.Fprintln(&b, name, value)
		}
	}
	return b.String()
}

const secretWord = "correct horse battery staple"

func hookRecord(id string) hook.Record {
	return hook.Record{Kind: hook.KindHook, ID: id, Data: []byte(`{"v":1,"config":{"secret":"` + secretWord + `","note":"` + id + `"}}`)}
}

func write(t *testing.T, s *Store, records ...hook.Record) {
	t.Helper()
	var changes []hook.Change
	for _, r := range records {
		changes = append(changes, hook.Change{Record: r, Expect: hook.ExpectAny})
	}
	if _, err := s.Write(t.Context(), hook.FeedHooks, changes, nil, nowMS); err != nil {
		t.Fatal(err)
	}
}

// wantRecords wants the documents of records in each way that they are read.
func wantRecords(t *testing.T, s *Store, records ...hook.Record) {
	t.Helper()
	for _, r := range records {
		got, err := s.Get(t.Context(), r.Kind, r.ID, nowMS)
		if err != nil || string(got.Data) != string(r.Data) {
			t.Errorf("Get(%s) = %s, %v; want %s", r.ID, got.Data, err, r.Data)
		}
		listed, _, err := s.List(t.Context(), r.Kind, "", "", 100, nowMS)
		changed, err2 := s.Changes(t.Context(), r.Kind, 0)
		for how, all := range map[string][]hook.Record{"List": listed, "Changes": changed} {
			found := false
			for _, l := range all {
				found = found || (l.ID == r.ID && string(l.Data) == string(r.Data))
			}
			if !found || err != nil || err2 != nil {
				t.Errorf("%s = %v, %v, %v; want %s in it", how, all, err, err2, r.Data)
			}
		}
	}
}

func TestStore_Sealed(t *testing.T) {
	open := func(t *testing.T) (*Store, *table, *keys) {
		tb, k := &table{items: map[string]map[string]any{}}, &keys{}
		if err := k.Choose(t.Context(), "new"); err != nil {
			t.Fatal(err)
		}
		return tb.store().Sealed(k), tb, k
	}
	t.Run("the table shows no word of a hook or an upstream, and everything of the rest", func(t *testing.T) {
		s, tb, _ := open(t)
		one, two := hookRecord("h1"), hookRecord("u1")
		two.Kind = hook.KindUpstream
		source := hook.Record{Kind: hook.KindSource, ID: "shop/sold", Data: []byte(`{"v":1,"description":"of the shop"}`)}
		write(t, s, one, two, source)
		text := tb.text(t)
		for _, word := range []string{"horse", "secret", "note"} {
			if strings.Contains(text, word) {
				t.Errorf("the table shows %q:\n%q", word, text)
			}
		}
		if !strings.Contains(text, "of the shop") {
			t.Errorf("the source is not there to be read:\n%q", text)
		}
		wantRecords(t, s, one, two, source)
	})
	t.Run("what was written in the clear is read, and sealed when it is written next", func(t *testing.T) {
		s, tb, _ := open(t)
		old := hookRecord("h1")
		write(t, tb.store(), old)
		if !strings.Contains(tb.text(t), secretWord) {
			t.Fatal("a store without keys seals")
		}
		wantRecords(t, s, old)
		write(t, s, old)
		if strings.Contains(tb.text(t), "horse") {
			t.Error("written again, it is still in the clear")
		}
		wantRecords(t, s, old)
	})
	t.Run("under an earlier key too, and an empty document", func(t *testing.T) {
		s, _, k := open(t)
		old, empty := hookRecord("h1"), hook.Record{Kind: hook.KindHook, ID: "h2", Data: []byte{}}
		write(t, s, old, empty)
		if err := k.Choose(t.Context(), "new"); err != nil {
			t.Fatal(err)
		}
		wantRecords(t, s, old, empty)
		if got, err := s.Get(t.Context(), hook.KindHook, "h2", nowMS); err != nil || got.Data == nil {
			t.Errorf("an empty document = %v, %v; want it empty, not missing", got.Data, err)
		}
	})
	t.Run("without a key it is an error that names the setting, and nothing else", func(t *testing.T) {
		s, tb, _ := open(t)
		write(t, s, hookRecord("h1"))
		wantError(t, tb.store(), "h1", seal.ErrNoKey, "KMS_KEY_ARN")
	})
	t.Run("while keys cannot be had nothing is read, nor written in the clear", func(t *testing.T) {
		s, tb, k := open(t)
		write(t, s, hookRecord("h1"))
		k.err = errors.New("KMS is throttled")
		wantError(t, s, "h1", k.err, "throttled")
		_, err := s.Write(t.Context(), hook.FeedHooks, []hook.Change{{Record: hookRecord("h2"), Expect: hook.ExpectAny}}, nil, nowMS)
		if !errors.Is(err, k.err) || tb.item(hook.KindHook, "h2") != nil {
			t.Errorf("Write = %v, %v; want an error, and nothing there", err, tb.item(hook.KindHook, "h2"))
		}
		// What holds no secret asks for no key.
		write(t, s, hook.Record{Kind: hook.KindSource, ID: "shop/sold", Data: []byte("{}")}, hook.Record{Kind: hook.KindHook, ID: "h3", Deleted: true})
		k.err = nil
		wantRecords(t, s, hookRecord("h1"))
	})
	t.Run("a document that was put to another hook does not open", func(t *testing.T) {
		s, tb, _ := open(t)
		write(t, s, hookRecord("h1"), hookRecord("h2"))
		a, b := tb.item(hook.KindHook, "h1"), tb.item(hook.KindHook, "h2")
		a[sealedField], b[sealedField] = b[sealedField], a[sealedField]
		wantError(t, s, "h1", nil, "another place")
		wantError(t, s, "h2", nil, "another place")
	})
	t.Run("one that is of another type is an error", func(t *testing.T) {
		s, tb, _ := open(t)
		write(t, s, hookRecord("h1"))
		tb.item(hook.KindHook, "h1")[sealedField] = map[string]any{"N": "1"}
		wantError(t, s, "h1", nil, sealedField)
	})
}

// wantError wants each way of reading a hook to fail, with a text, and to show
// nothing of its document.
func wantError(t *testing.T, s *Store, id string, is error, text string) {
	t.Helper()
	got, get := s.Get(t.Context(), hook.KindHook, id, nowMS)
	_, _, list := s.List(t.Context(), hook.KindHook, "", "", 10, nowMS)
	_, changes := s.Changes(t.Context(), hook.KindHook, 0)
	for how, err := range map[string]error{"Get": get, "List": list, "Changes": changes} {
		if err == nil || (is != nil && !errors.Is(err, is)) || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: %v; want an error about %s", how, err, text)
		}
		if errors.Is(err, hook.ErrNotFound) {
			t.Errorf("%s: %v; what is there is not to be taken for missing", how, err)
		}
	}
	if got.Data != nil {
		t.Errorf("Get = %s; want nothing", got.Data)
	}
}

func TestStore_Reseal(t *testing.T) {
	tb, k := &table{items: map[string]map[string]any{}}, &keys{}
	s := tb.store().Sealed(k)
	hooks := []hook.Record{hookRecord("h1"), hookRecord("h2"), hookRecord("h3")}
	up := hookRecord("u1")
	up.Kind = hook.KindUpstream
	all := append(hooks, up)
	write(t, tb.store(), append(all, hook.Record{Kind: hook.KindHook, ID: "gone", Deleted: true})...)
	epoch := tb.item("epoch", string(hook.FeedHooks))["n"]
	changed := map[string]any{}
	for _, r := range all {
		changed[r.ID] = tb.item(r.Kind, r.ID)["changed"]
	}
	reseal := func(t *testing.T, which string, want int) {
		t.Helper()
		if n, more, err := s.Reseal(t.Context(), which); n != want || more || err != nil {
			t.Errorf("Reseal(%s) = %d, %v, %v; want %d, and no more", which, n, more, err, want)
		}
		wantRecords(t, s, all...)
	}
	under := func(t *testing.T, want *seal.Key) {
		t.Helper()
		for _, r := range all {
			it := tb.item(r.Kind, r.ID)
			sealed, ok := it[sealedField].(map[string]any)
			if ok != (want != nil) || ok == (it["data"] != nil) {
				t.Errorf("%s = %v; want it sealed: %v", r.ID, it, want != nil)
				continue
			}
			if !ok {
				continue
			}
			var raw []byte
			if err := json.Unmarshal(fmt.Appendf(nil, "%q", sealed["B"]), &raw); err != nil {
				t.Fatal(err)
			}
			if id, err := seal.KeyOf(raw); err != nil || id != want.ID() {
				t.Errorf("%s is under key %v, %v; want %v", r.ID, id, err, want.ID())
			}
		}
	}
	t.Run("seals all that is in the clear, once", func(t *testing.T) {
		reseal(t, "current", 4)
		under(t, k.current)
		reseal(t, "current", 0)
	})
	t.Run("under a new key", func(t *testing.T) {
		first := k.current
		reseal(t, "new", 4)
		if k.current == first {
			t.Fatal("the key is the same")
		}
		under(t, k.current)
	})
	t.Run("readers of the feed notice nothing", func(t *testing.T) {
		if got := tb.item("epoch", string(hook.FeedHooks))["n"]; !cmp.Equal(got, epoch) {
			t.Errorf("epoch = %v; want %v as before", got, epoch)
		}
		for _, r := range all {
			if got := tb.item(r.Kind, r.ID)["changed"]; !cmp.Equal(got, changed[r.ID]) {
				t.Errorf("changed of %s = %v; want %v as before", r.ID, got, changed[r.ID])
			}
		}
	})
	t.Run("what is written meanwhile stays as it was written", func(t *testing.T) {
		newer := hookRecord("h1")
		newer.Data = []byte(`{"newer":true}`)
		tb.beforePut = func() { write(t, s, newer) }
		if err := k.Choose(t.Context(), "new"); err != nil {
			t.Fatal(err)
		}
		all[0] = newer
		reseal(t, "current", 3)
		under(t, k.current)
	})
	t.Run("in the clear again", func(t *testing.T) {
		reseal(t, "none", 4)
		under(t, nil)
		reseal(t, "none", 0)
	})
	t.Run("stops before its time is over, and goes on at the next call", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), resealMargin-time.Millisecond)
		defer cancel()
		if n, more, err := s.Reseal(ctx, "current"); n != 0 || !more || err != nil {
			t.Errorf("Reseal = %d, %v, %v; want nothing yet, and more", n, more, err)
		}
		reseal(t, "current", 4)
	})
	t.Run("what does not open stays, and is told", func(t *testing.T) {
		puts := tb.puts
		made := k.made
		k.made = nil
		_, _, err := s.Reseal(t.Context(), "new")
		if err == nil || !strings.Contains(err.Error(), "open hook h1") || tb.puts != puts {
			t.Errorf("Reseal = %v after %d writes; want an error that names the hook, and none", err, tb.puts-puts)
		}
		k.made = made
	})
	t.Run("without keys there is nothing to choose", func(t *testing.T) {
		if _, _, err := tb.store().Reseal(t.Context(), "current"); err == nil {
			t.Error("no error")
		}
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
