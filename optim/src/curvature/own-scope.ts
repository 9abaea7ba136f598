/** Where curvature is computed: in backward passes and steps of the program, and apart from its tensors. */

import { noGrad, scope, unscoped } from '@otimes/core';
import { precisely } from '@otimes/core/extend';

/** Unrecorded, outside of the program's scopes, and in all bits; what is made and not kept is given back at the end. */
export const inOwnScope = (run: () => void): void => precisely(() => unscoped(() => noGrad(() => scope(run))));
