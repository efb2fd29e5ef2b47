/** The form for a walk of a picture or a clip: the draft, the models that can make it, and what is wrong with it. */

import { requestWalk, type Model, type Walk } from "../api/client";
import { formMessages, NO_MESSAGES } from "../api/problem";
import { frameRatio, isSending, kindDraftOf, kindProblems, kindQuery, type KindDraft } from "./kindDraft";
import { kindRequest } from "./kindRequest";
import { choicesOf, modelsWithStyles, styleIn, stylesOf, waysOf } from "./kindStyles";
import { hasWays, modelsFor, type OtherKind } from "./kinds";
import { loadModels, models } from "./models.svelte";

export class KindForm {
  draft = $state<KindDraft>(kindDraftOf(""));
  problems = $state.raw(NO_MESSAGES);
  /** What is wrong, if it belongs to no field. */
  error = $state("");
  busy = $state(false);
  /** Whether a clip is on its way to the server. */
  sendingClip = $state(false);
  readonly able = $derived.by(() => modelsFor(this.kind, models.known));
  /** Whether no model can make walks of this kind, though some have started. */
  readonly missing = $derived(models.known.length > 0 && !this.able.length);
  readonly withStyles = $derived.by(() => modelsWithStyles(this.kind, models.known));
  readonly styles = $derived.by(() => stylesOf(this.kind, models.known));
  readonly ways = $derived.by(() => waysOf(this.kind, models.known));
  readonly style = $derived(styleIn(this.draft, this.styles));
  readonly choices = $derived.by(() => choicesOf(this.kind, this.draft, models.known));
  /** The model that the walk will have; undefined while none is known, and where its style decides. */
  readonly model = $derived<Model | undefined>(this.choices.find(({ name }) => name === this.draft.model) ?? this.choices[0]);
  readonly ratio = $derived(frameRatio(this.draft));
  readonly sending = $derived(this.sendingClip || isSending(this.draft));
  readonly query = $derived(kindQuery(this.draft));

  /** query: that of the URL. */
  constructor(
    readonly kind: OtherKind,
    query: string,
  ) {
    this.draft = kindDraftOf(query);
  }

  /** Choose a way that the models know, once they are known. */
  adapt(): void {
    const [first] = this.ways;
    if (first && hasWays(this.kind) && !this.ways.includes(this.draft.way)) this.draft.way = first;
  }

  /** Request the walk. Returns null if something has to be corrected first. */
  async submit(): Promise<Walk | null> {
    this.error = "";
    this.problems = kindProblems(this.kind, this.draft);
    if (this.problems.size) return null;
    this.busy = true;
    try {
      return await requestWalk(kindRequest(this.kind, this.draft, models.known));
    } catch (thrown) {
      ({ fields: this.problems, other: this.error } = formMessages(thrown, 0, isField));
      // A model may have been retired since the page was opened.
      void loadModels();
      return null;
    } finally {
      this.busy = false;
    }
  }
}

const FIELDS = ["picture", "clip", "style", "style_picture", "prompt", "strength", "amplitude", "most", "threshold", "frames", "frame_ms", "size", "seed"];

/** Whether the form has a place for the messages of a field. */
function isField(name: string): boolean {
  return FIELDS.includes(name);
}
