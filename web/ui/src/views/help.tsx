// The keys and the filter's language.
import { useEffect, useRef } from "preact/hooks";
import { help } from "../state/app";

const keys: [string, string][] = [
  ["j k ↓ ↑", "next, previous flow"], ["g G", "first, last flow"], ["Enter", "open the detail"], ["Esc", "close, leave, empty"], ["[ ]", "tab before, next tab of the detail"], ["/", "filter"],
  ["1 2 3 4", "flows, events, conversations, compare"], ["n b", "next turn, turn before"], ["p", "pause"], ["f", "follow the newest"], ["x", "clear the view"], ["m", "mark, then compare"],
  ["c", "copy as curl"], ["r", "send again"], ["?", "this help"],
];
const terms: [string, string][] = [
  ["words \"two words\"", "in method, host, path, type, process, model, error"], ["host:api.*", "a glob, or a part of the name; also path: process: model: type: method: state:"], ["status:404 4xx >=400", "also 200-299"],
  ["kind:websocket", "http, websocket, tcp, udp, dns, llm"], ["has:error", "llm, events, opaque, open, replay"], ["size:>1mb time:>2s tokens:>10k", "sizes, durations, tokens of a call"], ["body:TEXT", "in decoded bodies and messages"],
  ["jq:EXPR", "an expression of jq on a flow; takes the rest of the line"], ["-host:x", "not"],
];

export function Help() {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (help.value) box.current?.showModal();
    else box.current?.close();
  }, [help.value]);
  return (
    <dialog ref={box} class="help" aria-labelledby="help-title" onClose={() => (help.value = false)} onClick={(e) => e.target === box.current && (help.value = false)}>
      {help.value && <>
        <div class="help-head"><h2 id="help-title">Keys and filters</h2><button type="button" class="button" onClick={() => (help.value = false)} aria-label="Close">×</button></div>
        <div class="help-body">
          <table><caption>Keys</caption><tbody>{keys.map(([k, v]) => <tr key={k}><th scope="row">{k.split(" ").map((x) => <kbd key={x}>{x}</kbd>)}</th><td>{v}</td></tr>)}</tbody></table>
          <table><caption>Filter</caption><tbody>{terms.map(([k, v]) => <tr key={k}><th scope="row"><code>{k}</code></th><td>{v}</td></tr>)}</tbody></table>
        </div>
        <p class="dim">The page talks to trace on this machine and to nobody else. <a href="/assets/licences.txt">Licences of its libraries</a></p>
      </>}
    </dialog>
  );
}
