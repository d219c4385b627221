// htm bound to Preact: templates without a compile step, so the source is what a browser reads.
import { h } from 'preact';
import htm from 'htm';

export const html = htm.bind(h);
