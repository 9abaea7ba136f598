/**
 * A user's function as gpu.js takes it. The function's text is parsed, and written anew: names are ours, as minifiers may give any;
 * all variables are floats; sequences and the like, which minifiers make of statements, are statements again. What cannot be
 * translated is told by name, where the kernel is defined.
 */

import {
  ARITHMETIC,
  child,
  children,
  Expressions,
  fail,
  type Node,
  nameOf,
  type Source,
} from './custom-expressions.ts';
import { parseExpression } from './gpujs.ts';

export type KernelSource = {
  readonly params: readonly string[];
  /** The body in JavaScript of gpu.js, of arguments `names`; of a function that returns an array, entry `pick` of it. */
  body(names: readonly string[], pick?: Entry): string;
};

/** An entry of the array that a function returns. */
export type Entry = { readonly entry: number; readonly of: number };

/** Parses and checks a function's text. @param who in errors */
export function kernelSource(
  who: string,
  source: string,
  constants: Readonly<Record<string, number>>,
  returns: 'a number' | 'an array',
): KernelSource {
  const fn = parsed(who, source);
  const params = children(fn, 'params').map(param => {
    if (param.type !== 'Identifier') fail({ who, text: source }, param, 'arguments are plain names');
    return nameOf(param);
  });
  const body = (names: readonly string[], pick?: Entry) =>
    new Writer({ who, text: source, fn, constants }, pick).write(params, names);
  if (returns === 'a number') body(params.map((_, i) => `a${i}`));
  return { params, body };
}

function parsed(who: string, source: string): Node {
  let fn: Node;
  try {
    fn = parseExpression(source) as Node;
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    throw new TypeError(`${who}: expected the text of a function, got ${source.slice(0, 60)} (${why})`);
  }
  if (fn.type !== 'ArrowFunctionExpression' && fn.type !== 'FunctionExpression')
    fail({ who, text: source }, fn, 'expected a function');
  if (fn.async || fn.generator)
    fail({ who, text: source }, fn, 'expected a function that is neither async nor a generator');
  return fn;
}

class Writer extends Expressions {
  readonly #pick: Entry | undefined;
  #count = 0;
  #loops = 0;
  readonly #lines: string[] = [];

  constructor(source: Source, pick: Entry | undefined) {
    super(source);
    this.#pick = pick;
  }

  write(params: readonly string[], names: readonly string[]): string {
    for (const [i, param] of params.entries()) this.#declare(param, names[i]!);
    const body = child(this.source.fn, 'body');
    if (this.source.fn.expression) this.#return(body);
    else {
      this.#block(children(body, 'body'));
      if (!ends(children(body, 'body'))) this.fail(this.source.fn, 'it may come to its end without a return');
    }
    return this.#lines.join('\n');
  }

  #declare(name: string, value: string): void {
    // A copy, so that it may be assigned to.
    const own = `v${this.#count++}`;
    this.#lines.push(`let ${own} = ${value};`);
    this.scopes.at(-1)!.set(name, own);
  }

  // --- statements ---------------------------------------------------------------------------------------------------

  #block(statements: readonly Node[]): void {
    this.scopes.push(new Map());
    for (const statement of statements) {
      this.#statement(statement);
      if (ends([statement])) break;
    }
    this.scopes.pop();
  }

  #braced(n: Node): void {
    this.#lines.push('{');
    this.#block([n]);
    this.#lines.push('}');
  }

  #statement(n: Node): void {
    switch (n.type) {
      case 'EmptyStatement':
        return;
      case 'BlockStatement':
        return this.#block(children(n, 'body'));
      case 'VariableDeclaration':
        for (const d of children(n, 'declarations')) {
          if (child(d, 'id').type !== 'Identifier') this.fail(d, 'variables are plain names');
          this.#declare(nameOf(child(d, 'id')), d.init ? this.number(this.#last(child(d, 'init'))) : '0.0');
        }
        return;
      case 'ExpressionStatement':
        return n.directive ? undefined : this.#effect(child(n, 'expression'));
      case 'ReturnStatement':
        if (!n.argument) this.fail(n, 'expected a return with a value');
        return this.#return(child(n, 'argument'));
      case 'IfStatement':
        return this.#if(child(n, 'test'), child(n, 'consequent'), n.alternate ? child(n, 'alternate') : null);
      case 'WhileStatement':
        return this.#loop(null, child(n, 'test'), null, child(n, 'body'));
      case 'ForStatement': {
        const part = (field: string) => (n[field] ? child(n, field) : null);
        return this.#loop(part('init'), part('test'), part('update'), child(n, 'body'));
      }
      case 'DoWhileStatement':
        this.#lines.push('while (0.0 < 1.0) {');
        this.#inLoop(child(n, 'body'));
        this.#lines.push(`if (${this.test(child(n, 'test'))}) {} else { break; } }`);
        return;
      case 'BreakStatement':
        if (n.label || this.#loops === 0) this.refuse(n);
        this.#lines.push('break;');
        return;
      default:
        this.refuse(n);
    }
  }

  #inLoop(body: Node): void {
    this.#loops++;
    this.#block([body]);
    this.#loops--;
  }

  #loop(init: Node | null, test: Node | null, update: Node | null, body: Node): void {
    this.scopes.push(new Map());
    if (init !== null) this.#statementOrEffect(init);
    this.#lines.push(`while (${test === null ? '0.0 < 1.0' : this.test(test)}) {`);
    this.#inLoop(body);
    if (update !== null) this.#effect(update);
    this.#lines.push('}');
    this.scopes.pop();
  }

  #statementOrEffect(n: Node): void {
    if (n.type === 'VariableDeclaration') this.#statement(n);
    else this.#effect(n);
  }

  #if(test: Node, yes: Node, no: Node | null): void {
    this.#lines.push(`if (${this.test(this.#last(test))})`);
    this.#braced(yes);
    if (no === null) return;
    this.#lines.push('else');
    this.#braced(no);
  }

  /** The last of a sequence; what comes before it is done. */
  #last(n: Node): Node {
    if (n.type !== 'SequenceExpression') return n;
    const all = children(n, 'expressions');
    for (const one of all.slice(0, -1)) this.#effect(one);
    return this.#last(all.at(-1)!);
  }

  #return(n: Node): void {
    const value = this.#last(n);
    if (value.type === 'ConditionalExpression' && isStatement(value)) {
      this.#lines.push(`if (${this.test(this.#last(child(value, 'test')))}) {`);
      this.#return(child(value, 'consequent'));
      this.#lines.push('} else {');
      this.#return(child(value, 'alternate'));
      this.#lines.push('}');
      return;
    }
    this.#lines.push(`return ${this.#pick === undefined ? this.number(value) : this.#entry(value, this.#pick)};`);
  }

  #entry(n: Node, pick: Entry): string {
    if (n.type === 'ConditionalExpression')
      return `(${this.test(child(n, 'test'))} ? ${this.#entry(child(n, 'consequent'), pick)} : ${this.#entry(child(n, 'alternate'), pick)})`;
    const all = n.type === 'ArrayExpression' ? children(n, 'elements') : [];
    if (all.length !== pick.of)
      this.fail(n, `expected an array of ${pick.of}, the gradient by each argument, as the result`);
    return this.number(all[pick.entry]!);
  }

  /** An expression for what it does. */
  #effect(n: Node): void {
    switch (n.type) {
      case 'SequenceExpression':
        for (const one of children(n, 'expressions')) this.#effect(one);
        return;
      case 'LogicalExpression':
      case 'ConditionalExpression': {
        const of = n.type === 'ConditionalExpression' ? ['test', 'consequent', 'alternate'] : ['left', 'right'];
        const [test, yes, no] = of.map(field => child(n, field)) as [Node, Node, Node | undefined];
        if (n.operator === '??') this.refuse(n);
        const condition = this.test(test);
        const branch = (one: Node) => {
          this.#lines.push('{');
          this.#effect(one);
          this.#lines.push('}');
        };
        this.#lines.push(n.operator === '||' ? `if (${condition}) {} else` : `if (${condition})`);
        branch(yes);
        if (no === undefined) return;
        this.#lines.push('else');
        branch(no);
        return;
      }
      case 'AssignmentExpression': {
        const own = this.#target(n, child(n, 'left'));
        const operator = (n.operator as string).slice(0, -1);
        const value = this.number(this.#last(child(n, 'right')));
        if (operator !== '' && !ARITHMETIC.includes(operator)) this.fail(n, `the operator ${n.operator} is not there`);
        this.#lines.push(`${own} = ${operator === '' ? value : `(${own} ${operator} ${value})`};`);
        return;
      }
      case 'UpdateExpression': {
        const own = this.#target(n, child(n, 'argument'));
        this.#lines.push(`${own} = (${own} ${(n.operator as string)[0]} 1.0);`);
        return;
      }
      default:
        this.fail(n, 'a statement that assigns nothing');
    }
  }

  #target(n: Node, left: Node): string {
    const own = left.type === 'Identifier' ? this.known(left) : undefined;
    return own ?? this.fail(n, 'assignments are to variables of the function');
  }
}

/** Whether a choice of values does something on its way. */
function isStatement(n: Node): boolean {
  if (n.type !== 'ConditionalExpression') return n.type === 'SequenceExpression';
  return isStatement(child(n, 'consequent')) || isStatement(child(n, 'alternate'));
}

/** Whether every way through the statements returns. */
function ends(statements: readonly Node[]): boolean {
  return statements.some(n => {
    if (n.type === 'ReturnStatement') return true;
    if (n.type === 'BlockStatement') return ends(children(n, 'body'));
    return n.type === 'IfStatement' && !!n.alternate && ends([child(n, 'consequent')]) && ends([child(n, 'alternate')]);
  });
}
