//! The syntax tree of a template: what it names is checked, and calls that the library does not
//! take are written as ones that it does.

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, PipeNode, SmolStr};

use super::template::{LABEL, PRINT};

/// Refuses functions that do not exist, as Go does when it reads the template.
pub(super) fn check_list(list: &ListNode, known: &[&str]) -> Result<(), String> {
    let mut unknown = None;
    visit_list(list, &mut |expression| {
        if let Expr::Identifier(position, name) = expression
            && unknown.is_none()
            && !known.contains(&name.as_str())
        {
            unknown = Some(format!(
                "template: :{}: function {:?} not defined",
                position.line,
                name.as_str()
            ));
        }
    });
    unknown.map_or(Ok(()), Err)
}

pub(super) fn visit_list(list: &ListNode, visit: &mut dyn FnMut(&Expr)) {
    for node in &list.nodes {
        match node {
            Node::List(list) => visit_list(list, visit),
            Node::Action(action) => visit_pipe(&action.pipe, visit),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                visit_pipe(&branch.pipe, visit);
                visit_list(&branch.body, visit);
                if let Some(list) = &branch.else_body {
                    visit_list(list, visit);
                }
            }
            Node::Template(template) => {
                if let Some(pipe) = &template.pipe {
                    visit_pipe(pipe, visit);
                }
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn visit_pipe(pipe: &PipeNode, visit: &mut dyn FnMut(&Expr)) {
    for command in &pipe.commands {
        for argument in &command.args {
            visit_expression(argument, visit);
        }
    }
}

fn visit_expression(expression: &Expr, visit: &mut dyn FnMut(&Expr)) {
    visit(expression);
    match expression {
        Expr::Pipe(_, pipe) => visit_pipe(pipe, visit),
        Expr::Chain(_, inner, _) => visit_expression(inner, visit),
        _ => {}
    }
}

pub(super) fn rewrite_list(list: &mut ListNode) {
    for node in &mut list.nodes {
        match node {
            Node::List(list) => rewrite_list(list),
            Node::Action(action) => {
                rewrite_pipe(&mut action.pipe);
                if action.pipe.decl.is_empty() {
                    action.pipe.commands.push(CommandNode {
                        pos: action.pos,
                        args: vec![Expr::Identifier(action.pos, SmolStr::new(PRINT))],
                    });
                }
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => rewrite_branch(branch),
            Node::Template(template) => {
                if let Some(pipe) = &mut template.pipe {
                    rewrite_pipe(pipe);
                }
            }
            Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn rewrite_branch(branch: &mut BranchNode) {
    rewrite_pipe(&mut branch.pipe);
    rewrite_list(&mut branch.body);
    if let Some(list) = &mut branch.else_body {
        rewrite_list(list);
    }
}

/// Turns `.Label "k"` into a call of a function, for the data has no methods.
fn rewrite_pipe(pipe: &mut PipeNode) {
    for command in &mut pipe.commands {
        for argument in &mut command.args {
            if let Expr::Pipe(_, inner) = argument {
                rewrite_pipe(inner);
            }
        }
        let method = match command.args.first() {
            Some(Expr::Field(position, fields)) if fields.len() == 1 => {
                Some((*position, &fields[0]))
            }
            Some(Expr::Variable(position, name, fields)) if name == "$" && fields.len() == 1 => {
                Some((*position, &fields[0]))
            }
            _ => None,
        };
        let Some((position, _)) = method.filter(|(_, name)| *name == "Label") else {
            continue;
        };
        if command.args.len() > 1 {
            command.args[0] = Expr::Identifier(position, SmolStr::new(LABEL));
            command.args.insert(1, Expr::Dot(position));
        }
    }
}
