package main
import ("net/http";"os";"encoding/json";"log/slog";"sync/atomic")
var x atomic.Value
func main(){ b,_:=os.ReadFile(os.Args[1]); var v any; err:=json.Unmarshal(b,&v); slog.Info("x","err",err,"v",v); http.ListenAndServe("127.0.0.1:0",nil)}
